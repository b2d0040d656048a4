"""Pre-training from a config, and planning it; names are loaded when they are first used."""

from xtrimogene.lazy_names import lazy_names

_HOMES = {
    "DataSummary": "xtrimogene.training.data_summary",
    "FineTuneConfig": "xtrimogene.config",
    "PretrainConfig": "xtrimogene.config",
    "fit_annotator": "xtrimogene.tl",  # as it stands in the public face; nothing in training imports what is above it
    "plan": "xtrimogene.training.planning",
    "pretrain": "xtrimogene.training.run",
    "read_config": "xtrimogene.training.run",
    "summarize_files": "xtrimogene.training.data_summary",
}

__all__ = [
    "DataSummary",
    "FineTuneConfig",
    "PretrainConfig",
    "fit_annotator",
    "plan",
    "pretrain",
    "read_config",
    "summarize_files",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
