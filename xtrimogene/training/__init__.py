"""Pre-training from a config, and planning it; names are loaded when they are first used."""

from importlib import import_module

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


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
