"""A protein model is a folder: config.json, with the name of its vocabulary, and weights.safetensors."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from xtrimogene.checkpoint import (
    CONFIG,
    WEIGHTS,
    fill_network,
    read_json,
    read_weights,
    require_unused,
    weights_to_bytes,
)
from xtrimogene.config import from_dict, to_dict
from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.protein.config import ProteinConfig
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.tokenizer import ProteinTokenizer

FORMAT = "xtrimogene-protein-1"


@dataclass(frozen=True, slots=True)
class ProteinModel:
    """A network, its vocabulary, and what is known about its training."""

    network: ProteinLM
    tokenizer: ProteinTokenizer
    card: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


def save_protein_model(
    model: ProteinModel, folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32
) -> Path:
    """Write a model folder; nothing half-written is ever seen under its name.

    Raises
    ------
    CheckpointError
        The folder holds something or cannot be written, or a weight is no finite number in this dtype.
    """
    target = Path(folder)
    require_unused(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
            place = Path(scratch) / "model"
            place.mkdir()
            (place / WEIGHTS).write_bytes(weights_to_bytes(model.network, dtype))
            config = {
                "format": FORMAT,
                "tokenizer": model.tokenizer.name,
                "model": to_dict(model.network.config),
                "sha256": file_sha256(place / WEIGHTS),
                "card": dict(model.card),
            }
            (place / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
            os.replace(place, target)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written ({error.strerror or error}); name another folder.") from None
    return target


def load_protein_model(folder: str | os.PathLike[str]) -> ProteinModel:
    """Read a model folder, ready for inference.

    Raises
    ------
    CheckpointError
        No such folder, a file missing, unreadable or altered, or weights that do not fit the configuration.
    """
    place = Path(folder)
    missing = [name for name in (CONFIG, WEIGHTS) if not (place / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{place} is no protein model: {' and '.join(missing)} missing. Give a folder that save_protein_model made."
        )
    values = read_json(place / CONFIG)
    if values.get("format") != FORMAT:
        raise CheckpointError(
            f"{place / CONFIG} has format {values.get('format')!r} and {FORMAT!r} is needed. Give the folder of a "
            "protein model, or update xtrimogene."
        )
    try:
        config = from_dict(ProteinConfig, values["model"], "model")
        tokenizer, digest = ProteinTokenizer.named(values["tokenizer"]), values["sha256"]
    except (KeyError, ConfigError) as error:
        raise CheckpointError(f"{place / CONFIG} is not a configuration of ours ({error}). Fetch it again.") from None
    if file_sha256(place / WEIGHTS) != digest:
        raise CheckpointError(f"{place / WEIGHTS} is not the file this model was saved with. Fetch the model again.")
    with torch.device("meta"):
        network = ProteinLM(config, seed=None)
    fill_network(network, read_weights(place / WEIGHTS), place / WEIGHTS)
    return ProteinModel(network, tokenizer, values.get("card", {}), place.name)
