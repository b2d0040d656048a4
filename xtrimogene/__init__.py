"""xtrimogene: single-cell foundation models of the xTrimoGene / scFoundation family.

Names are loaded when they are first used, so that importing the package costs nothing. Types: ``__init__.pyi``.
"""

from importlib import import_module

_HOMES = {
    "Client": "xtrimogene.serving.client",
    "ModelConfig": "xtrimogene.config",
    "PretrainedModel": "xtrimogene.checkpoint",
    "load": "xtrimogene.checkpoint",
    "save": "xtrimogene.checkpoint",
    "was_seen": "xtrimogene.get",
}

__all__ = [
    "Client",
    "ModelConfig",
    "PretrainedModel",
    "__version__",
    "atlas",
    "errors",
    "evaluation",
    "get",
    "load",
    "pl",
    "pp",
    "presets",
    "protein",
    "save",
    "serving",
    "tl",
    "training",
    "was_seen",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        from importlib.metadata import version

        value: object = version(__name__)
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        value = import_module(f"{__name__}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
