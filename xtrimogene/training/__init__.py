"""Pre-training from a config; names are loaded when they are first used."""

from importlib import import_module

_HOMES = {
    "PretrainConfig": "xtrimogene.config",
    "pretrain": "xtrimogene.training.run",
    "read_config": "xtrimogene.training.run",
}

__all__ = ["PretrainConfig", "pretrain", "read_config"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
