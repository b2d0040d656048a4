"""Named model sizes; each is a function of the number of genes.

Sizes of 3M, 10M and 100M follow the xTrimoGene paper at 19,264 genes, with our decoder in place of the paper's: it wins
at equal steps and at equal operations (benchmarks/scaling_study.py). ``decoder.kind = "performer"`` gives the paper's;
``scfoundation`` is the released 100M model and has it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from xtrimogene.config import DecoderConfig, EncoderConfig, ModelConfig, from_dict, to_dict
from xtrimogene.errors import ConfigError


def demo(num_genes: int) -> ModelConfig:
    """Small enough to train on a CPU core in half an hour and to travel in the wheel."""
    return ModelConfig(
        num_genes=num_genes,
        encoder=EncoderConfig(dim=128, num_layers=2, num_heads=4),
        decoder=DecoderConfig(kind="cross_attention", dim=64, num_layers=1, num_heads=2),
        num_bins=64,
        latent_dim=128,
        pool="latent",
    )


def xtrimogene_3m(num_genes: int) -> ModelConfig:
    """Encoder 4 x 128, decoder 2 x 128."""
    return ModelConfig(
        num_genes=num_genes,
        encoder=EncoderConfig(dim=128, num_layers=4, num_heads=2),
        decoder=DecoderConfig(kind="cross_attention", dim=128, num_layers=2, num_heads=2),
    )


def xtrimogene_10m(num_genes: int) -> ModelConfig:
    """Encoder 4 x 256, decoder 2 x 256."""
    return ModelConfig(
        num_genes=num_genes,
        encoder=EncoderConfig(dim=256, num_layers=4, num_heads=8),
        decoder=DecoderConfig(kind="cross_attention", dim=256, num_layers=2, num_heads=8),
    )


def xtrimogene_100m(num_genes: int) -> ModelConfig:
    """Encoder 12 x 768, decoder 6 x 512, pre-norm."""
    return ModelConfig(
        num_genes=num_genes,
        encoder=EncoderConfig(dim=768, num_layers=12, num_heads=12),
        decoder=DecoderConfig(kind="cross_attention", dim=512, num_layers=6, num_heads=8),
    )


def scfoundation(num_genes: int = 19_264) -> ModelConfig:
    """Build the released model: post-norm, 266 features, zeros where a gene was not measured."""
    return ModelConfig(
        num_genes=num_genes,
        encoder=EncoderConfig(dim=768, num_layers=12, num_heads=12, norm_first=False, dropout=0.1),
        decoder=DecoderConfig(dim=512, num_layers=6, num_heads=8, num_features=266),
        unmeasured="zero",
        pool="all",
        read_depth="t4",
    )


PRESETS: dict[str, Callable[[int], ModelConfig]] = {
    "demo": demo,
    "3M": xtrimogene_3m,
    "10M": xtrimogene_10m,
    "100M": xtrimogene_100m,
    "scfoundation": scfoundation,
}


def model_config(
    preset: str, num_genes: int, changes: Mapping[str, Any] = MappingProxyType({}), where: str = "model"
) -> ModelConfig:
    """Return the preset of this name for so many genes.

    Parameters
    ----------
    changes
        Settings instead of the preset's, nested as a ModelConfig is: ``{"latent_dim": 64, "encoder": {"dim": 64}}``.
    where
        What messages call the changes.

    Raises
    ------
    ConfigError
        No preset has this name; or a change that no model has, or that does not fit.
    """
    if preset not in PRESETS:
        raise ConfigError(f"There is no preset {preset!r}; choose one of {', '.join(PRESETS)}.")
    config = PRESETS[preset](num_genes)
    if not changes:
        return config
    if "num_genes" in changes:
        raise ConfigError(f"{where}.num_genes is given by the gene list; leave it out.")
    return from_dict(ModelConfig, _merged(to_dict(config), changes), where)


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for name, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(settings.get(name), Mapping)
        merged[name] = _merged(settings[name], value) if nested else value
    return merged
