"""A checkpoint is a folder: config.json, weights.safetensors, genes.tsv, card.json. Never a pickle.

One that we trained also has cells.npy: the sorted hashes of the cells of its training data. config.json holds the
sha256 of the weights, the gene table and the hashes, so that a file swapped for another is noticed.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt64
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from xtrimogene.config import ModelConfig, from_dict, to_dict
from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import CheckpointError, ConfigError, MissingExtraError
from xtrimogene.long_work import temporary_folder
from xtrimogene.model.xtrimogene import XTrimoGene

FORMAT = "xtrimogene-1"
CONFIG, WEIGHTS, GENES, CARD = "config.json", "weights.safetensors", "genes.tsv", "card.json"
CELLS = "cells.npy"


@dataclass(frozen=True, slots=True)
class PretrainedModel:
    """A network, the genes it knows and what is known about it; ``sha256`` is that of its weights file.

    ``cell_hashes`` are those of the cells of its training data, sorted; None where they are not known.
    """

    network: XTrimoGene
    genes: GeneVocabulary
    card: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    sha256: str = ""
    cell_hashes: UInt64[np.ndarray, "cells"] | None = None

    @property
    def config(self) -> ModelConfig:
        return self.network.config

    def __repr__(self) -> str:
        num_parameters = sum(parameter.numel() for parameter in self.network.parameters())
        encoder = self.config.encoder
        return (
            f"PretrainedModel({self.name!r}: {num_parameters:,} parameters, {len(self.genes):,} genes, "
            f"encoder {encoder.num_layers} x {encoder.dim})"
        )


def load(name_or_path: str | os.PathLike[str] | PretrainedModel = "demo") -> PretrainedModel:
    """Load a model: ``"demo"`` (in the package), a folder, or ``"hf://owner/name@revision"``.

    Raises
    ------
    CheckpointError
        No such model, a file missing, unreadable or altered, one that could not be fetched, or weights that do not fit
        the configuration.
    MissingExtraError
        hf:// without the extra ``hub``.
    """
    if isinstance(name_or_path, PretrainedModel):
        return name_or_path
    text = os.fspath(name_or_path)
    if text == "demo":
        with resources.as_file(resources.files("xtrimogene") / "assets" / "demo") as folder:
            return _load_folder(folder, "demo")
    folder = _download(text) if text.startswith("hf://") else Path(text)
    try:
        return _load_folder(folder, text if text.startswith("hf://") else Path(os.path.abspath(folder)).name)
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or folder} cannot be read ({error.strerror or error}); check its name and permissions."
        ) from None


def save(model: PretrainedModel, folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32) -> Path:
    """Write a checkpoint folder; nothing half-written is ever seen under its name.

    Parameters
    ----------
    folder
        Must not exist yet, or be an empty folder.
    dtype
        float16 halves the file; embeddings are computed in float32 either way.

    Raises
    ------
    CheckpointError
        The folder exists and holds something, or cannot be written; or a weight is no finite number in this dtype.
    """
    target = Path(folder)
    require_unused(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
            place = Path(scratch) / "checkpoint"
            place.mkdir()
            (place / WEIGHTS).write_bytes(weights_to_bytes(model.network, dtype))
            model.genes.write(place / GENES)
            parts = [WEIGHTS, GENES]
            if model.cell_hashes is not None:
                np.save(place / CELLS, np.unique(model.cell_hashes), allow_pickle=False)
                parts.append(CELLS)
            config = {
                "format": FORMAT,
                "model": to_dict(model.config),
                "sha256": {part: file_sha256(place / part) for part in parts},
            }
            (place / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
            (place / CARD).write_text(json.dumps(dict(model.card), indent=1) + "\n")
            os.replace(place, target)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written ({error.strerror or error}); name another folder.") from None
    return target


def weights_to_bytes(network: nn.Module, dtype: torch.dtype) -> bytes:
    """Return the content of a safetensors file.

    Raises
    ------
    CheckpointError
        A weight is no finite number in this dtype.
    """
    state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in network.state_dict().items()}
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"Nothing was saved: {name!r} holds a value that is no finite number in {dtype}. "
                "The training diverged, or the dtype is too narrow."
            )
    return to_bytes(state)  # save_file makes a file that others cannot read


def require_unused(folder: Path) -> None:
    """Refuse a folder that holds something, and a file.

    Raises
    ------
    CheckpointError
        It is one.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} exists already; name a new folder, or remove it first.")


def require_new_folder(folder: Path) -> None:
    """Refuse a folder that holds something, or cannot be made, before long work; make the one above it.

    Raises
    ------
    CheckpointError
        It holds something.
    ConfigError
        It cannot be made.
    """
    require_unused(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror or error}); name another place.") from error
    with temporary_folder(folder) as scratch:
        if folder.exists():  # empty: whether another may take its place is seen by trying
            (scratch / "trial").mkdir()
            os.replace(scratch / "trial", folder)


def _load_folder(folder: Path, name: str) -> PretrainedModel:
    _check_complete(folder)
    config_file = read_json(folder / CONFIG)
    if config_file.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder / CONFIG} has format {config_file.get('format')!r}; this version reads {FORMAT!r}. "
            "Convert the model again, or update xtrimogene."
        )
    try:
        config = from_dict(ModelConfig, config_file["model"], "model")
        parts = [WEIGHTS, GENES, *([CELLS] if CELLS in config_file["sha256"] else [])]
        expected = {part: str(config_file["sha256"][part]) for part in parts}
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} is not a configuration of ours ({error}). Fetch the checkpoint again."
        ) from None
    _check_complete(folder, parts)
    for part, digest in expected.items():
        found = file_sha256(folder / part)
        if found != digest:
            raise CheckpointError(
                f"{folder / part} is not the file this checkpoint was saved with "
                f"(sha256 {found[:12]}..., wanted {digest[:12]}...). Fetch the checkpoint again."
            )
    genes = GeneVocabulary.read(folder / GENES)
    if len(genes) != config.num_genes:
        raise CheckpointError(
            f"{folder / GENES} lists {len(genes):,} genes and the model has {config.num_genes:,}. "
            "Fetch the checkpoint again."
        )
    network = build_network(config, read_weights(folder / WEIGHTS), folder / WEIGHTS)
    hashes = _read_hashes(folder / CELLS) if CELLS in expected else None
    return PretrainedModel(network, genes, read_json(folder / CARD), name, expected[WEIGHTS], hashes)


def build_network(config: ModelConfig, state: Mapping[str, Tensor], where: Path) -> XTrimoGene:
    """Build a network around these weights, ready for inference; every name and shape must fit.

    Raises
    ------
    CheckpointError
        The first name or shape that does not.
    """
    with torch.device("meta"):  # no weight is drawn, and none is allocated that the file does not hold
        network = XTrimoGene(config, seed=None)
    fill_network(network, state, where)
    return network


def fill_network(network: nn.Module, state: Mapping[str, Tensor], where: Path) -> None:
    """Give a network on the meta device these weights, in float32 and ready for inference; every one must fit.

    Raises
    ------
    CheckpointError
        The first name or shape that does not.
    """
    own = network.state_dict()
    for kind, names in (("misses", own.keys() - state.keys()), ("has the unknown", state.keys() - own.keys())):
        if names:
            raise CheckpointError(
                f"{where} {kind} {min(names)!r} (and {len(names) - 1} more): it belongs to another model."
            )
    for name, tensor in own.items():
        if state[name].shape != tensor.shape:
            raise CheckpointError(
                f"{where}: {name!r} has shape {tuple(state[name].shape)}, not {tuple(tensor.shape)} as configured."
            )
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    network.eval().requires_grad_(False)


def _check_complete(folder: Path, parts: Sequence[str] = (CONFIG, WEIGHTS, GENES, CARD)) -> None:
    if not folder.is_dir():
        raise CheckpointError(
            f"No model at {str(folder)!r}: a folder with {CONFIG}, {WEIGHTS}, {GENES} and {CARD} is needed, "
            "or the name 'demo'."
            + (
                f" A scFoundation file is read by `xtrimogene convert scfoundation {folder}`."
                if folder.is_file()
                else ""
            )
        )
    missing = [part for part in parts if not (folder / part).is_file()]
    if missing:
        raise CheckpointError(f"{folder} is no complete checkpoint: {', '.join(missing)} missing. Fetch it again.")


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}). Fetch the checkpoint again.") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object. Fetch the checkpoint again.")
    return value


def _read_hashes(path: Path) -> UInt64[np.ndarray, "cells"]:
    """Leave them on disk: an atlas has hundreds of megabytes of them."""
    try:
        hashes = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CheckpointError(f"{path} is not a NumPy file ({error}). Fetch the checkpoint again.") from None
    if hashes.ndim != 1 or hashes.dtype != np.uint64:
        raise CheckpointError(f"{path} holds {hashes.dtype} values and 64-bit hashes are needed. Fetch it again.")
    return hashes


def read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file ({error}). Fetch the checkpoint again.") from None


def _download(address: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError(f"{address} needs an extra: pip install 'xtrimogene[hub]'.") from None
    repository, _, revision = address.removeprefix("hf://").partition("@")
    parts = [CONFIG, WEIGHTS, GENES, CARD, CELLS]
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=parts))
    except Exception as error:  # the hub's own errors have no base in common with its HTTP library's
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{address} could not be fetched: {reason.rstrip('.')}. Check the name, the revision after @, your access "
            "to it and the connection; a folder fetched before is given by its path."
        ) from error
