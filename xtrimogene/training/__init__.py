"""Pre-training from a config, and planning it; names are loaded when they are first used."""

from xtrimogene.lazy_names import lazy_names

_HOMES = {
    "DataSummary": "xtrimogene.training.data_summary",
    "FineTuneConfig": "xtrimogene.config",
    "PretrainConfig": "xtrimogene.config",
    "ResponseConfig": "xtrimogene.tasks.synergy.learned",
    "fit_annotator": "xtrimogene.tl",  # as it stands in the public face; nothing in training imports what is above it
    "fit_perturbation": "xtrimogene.tl",
    "fit_response": "xtrimogene.tl",
    "fit_synergy": "xtrimogene.tl",
    "plan": "xtrimogene.training.planning",
    "pretrain": "xtrimogene.training.run",
    "read_config": "xtrimogene.training.run",
    "summarize_files": "xtrimogene.training.data_summary",
}

__all__ = [
    "DataSummary",
    "FineTuneConfig",
    "PretrainConfig",
    "ResponseConfig",
    "fit_annotator",
    "fit_perturbation",
    "fit_response",
    "fit_synergy",
    "plan",
    "pretrain",
    "read_config",
    "summarize_files",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
