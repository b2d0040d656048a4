"""A service that hosts models, and its client; names are loaded when they are first used."""

from xtrimogene.lazy_names import lazy_names

_HOMES = {
    "Client": "xtrimogene.serving.client",
    "Limits": "xtrimogene.serving.limits",
    "ServedModel": "xtrimogene.serving.served_model",
    "serve": "xtrimogene.serving.server",
}

__all__ = ["Client", "Limits", "ServedModel", "serve"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
