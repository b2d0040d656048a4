"""A predictor on disk: a folder of perturbation.json and arrays.safetensors. Never a pickle.

It holds the effects learned from, what is known of the model's genes, and the choices made; the closed form is solved
again when it is read. perturbation.json holds the sha256 of the arrays.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.numpy import load, save
from scipy.sparse import csr_matrix

from xtrimogene.checkpoint import require_new_folder
from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.errors import CheckpointError
from xtrimogene.long_work import temporary_folder
from xtrimogene.tasks.perturbation.choice import Choice
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.gene_knowledge import GeneKnowledge
from xtrimogene.tasks.perturbation.graph_network import EffectNetwork, GraphPredictor
from xtrimogene.tasks.perturbation.linear import Kernel
from xtrimogene.tasks.perturbation.predictor import Asked, Method, Predictor, linear_predictor

FORMAT = "xtrimogene-perturbation-1"
CARD, ARRAYS = "perturbation.json", "arrays.safetensors"
NUMBERS = ("context", "change", "num_cells", "control", "halves", "num_controls", "variance")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SavedPredictor:
    """Everything a prediction needs. ``genes`` are the places of the M genes that are predicted, in the model.

    "linear" has ``choices``, "graph" has ``networks`` and the ``coexpression`` of the genes. ``card["model"]`` says
    whose genes and states these are, ``card["held_out"]`` what predictions are worth.
    """

    method: Method
    train: Effects
    knowledge: GeneKnowledge
    genes: Int[np.ndarray, " M"]
    coexpression: csr_matrix
    choices: Mapping[Asked, Choice]
    networks: Mapping[Asked, EffectNetwork]
    card: Mapping[str, Any]

    def predictor(self, parts: Sequence[str], places: Int[np.ndarray, " P"]) -> Predictor:
        """Return the predictor of perturbations with these parts, among them those it was trained on."""
        if self.method == "linear":
            return linear_predictor(self.train, self.knowledge.features(parts, places), self.choices)
        inputs = self.knowledge.inputs(parts, places, self.genes, self.coexpression)
        fitted = {
            asked: GraphPredictor(network=network, inputs=inputs, train=self.train, num_epochs=0)
            for asked, network in self.networks.items()
        }
        return Predictor(train=self.train, fitted=fitted)


def save_predictor(saved: SavedPredictor, folder: str | os.PathLike[str]) -> Path:
    """Write the folder; nothing half-written is ever seen under its name.

    Raises
    ------
    CheckpointError
        The folder exists and holds something.
    ConfigError
        It cannot be written.
    """
    target = Path(folder)
    require_new_folder(target)
    arrays = {f"train.{name}": getattr(saved.train, name) for name in NUMBERS}
    arrays |= {"genes": saved.genes, "states": saved.knowledge.states}
    for name, graph in (("graph", saved.knowledge.graph), ("coexpression", saved.coexpression)):
        if graph is not None:
            arrays |= {f"{name}.{part}": getattr(graph, part) for part in ("data", "indices", "indptr")}
    for asked, network in saved.networks.items():
        arrays |= {f"network.{asked}.{name}": tensor.numpy() for name, tensor in network.state_dict().items()}
    with temporary_folder(target) as scratch:
        place = scratch / "predictor"
        place.mkdir()
        (place / ARRAYS).write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
        facts = {
            "format": FORMAT,
            "method": saved.method,
            "networks": {asked: network.width for asked, network in saved.networks.items()},
            "sha256": file_sha256(place / ARRAYS),
            "perturbations": saved.train.perturbation.tolist(),
            "contexts": list(saved.train.context_names),
            "choices": {asked: _choice_facts(choice) for asked, choice in saved.choices.items()},
            "card": dict(saved.card),
        }
        (place / CARD).write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n")
        os.replace(place, target)
    return target


def load_predictor(folder: str | os.PathLike[str]) -> SavedPredictor:
    """Read the folder.

    Raises
    ------
    CheckpointError
        No such folder; a file is missing, or of another kind; the arrays are not those that were saved. What
        perturbation.json says is checked for sense only: its own figures have no checksum.
    """
    place = Path(folder)
    try:
        facts = json.loads((place / CARD).read_text())
        if facts["format"] != FORMAT:
            raise CheckpointError(f"{place / CARD} has format {facts['format']!r}; this version reads {FORMAT!r}.")
        if file_sha256(place / ARRAYS) != facts["sha256"]:
            raise CheckpointError(f"{place / ARRAYS} is not the file this predictor was saved with; fit it again.")
        saved = _from(facts, load((place / ARRAYS).read_bytes()))
        _check(saved)
        return saved
    except OSError as error:
        raise CheckpointError(
            f"no predictor at {str(place)!r} ({error.strerror or error}): a folder with {CARD} and {ARRAYS} is needed, "
            "as xtrimogene.tl.fit_perturbation writes it."
        ) from None
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        OverflowError,
        RecursionError,
        RuntimeError,
        SafetensorError,
    ) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{place} is no predictor of ours ({error!r}); fit it again.") from None


def _from(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> SavedPredictor:
    train = Effects(
        perturbation=np.array(facts["perturbations"], dtype=str),
        context_names=tuple(facts["contexts"]),
        **{name: arrays[f"train.{name}"] for name in NUMBERS},
    )
    choices = {asked: _choice(one) for asked, one in facts["choices"].items()}
    states = arrays["states"]
    networks = {}
    for asked, width in facts["networks"].items():
        network, start = EffectNetwork(states.shape[1], int(width)), f"network.{asked}."
        own = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
        network.load_state_dict({name: torch.from_numpy(array) for name, array in own.items()})
        networks[asked] = network.requires_grad_(False)
    if facts["method"] not in get_args(Method):
        raise ValueError("method")
    return SavedPredictor(
        method=facts["method"],
        train=train,
        knowledge=GeneKnowledge(states=states, graph=_graph(arrays, "graph") if "graph.data" in arrays else None),
        genes=arrays["genes"],
        coexpression=_graph(arrays, "coexpression"),
        choices=choices,
        networks=networks,
        card=facts["card"],
    )


def _graph(arrays: Mapping[str, np.ndarray], name: str) -> csr_matrix:
    data, indices, indptr = (arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
    graph = csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, len(indptr) - 1))
    graph.check_format()
    if not np.isfinite(graph.data).all() or (graph.data < 0).any():
        raise ValueError(name)
    return graph


def _choice_facts(choice: Choice) -> dict[str, Any]:
    strength = "infinite" if np.isinf(choice.strength) else choice.strength
    errors = {"error": choice.error, "error_of_mean": choice.error_of_mean, "num_held_out": choice.num_held_out}
    return {"kernel": choice.kernel.as_dict(), "strength": strength, "denoise": choice.denoise} | errors


def _choice(facts: Mapping[str, Any]) -> Choice:
    strength = np.inf if facts["strength"] == "infinite" else float(facts["strength"])
    if not strength > 0:
        raise ValueError("strength")
    numbers = {name: float(facts[name]) for name in ("denoise", "error", "error_of_mean")}
    kernel = Kernel(**facts["kernel"])
    return Choice(kernel=kernel, strength=strength, num_held_out=int(facts["num_held_out"]), **numbers)


def _check(saved: SavedPredictor) -> None:
    """Raise a ValueError or KeyError where what was read is not what `save_predictor` writes."""
    train, (num_genes,) = saved.train, saved.genes.shape
    effects, contexts = len(train.perturbation), len(train.context_names)
    shapes: dict[str, tuple[int, ...]] = {
        "change": (effects, num_genes),
        "control": (contexts, num_genes),
        "halves": (2, contexts, num_genes),
        "variance": (num_genes,),
        "context": (effects,),
        "num_cells": (effects,),
        "num_controls": (contexts,),
    }
    for name, shape in shapes.items():
        array = getattr(train, name)
        if array.shape != shape or not array.size or not np.isfinite(array).all():
            raise ValueError(name)
    if train.context.min() < 0 or train.context.max() >= contexts or train.num_cells.min() < 1:
        raise ValueError("context or num_cells")
    states = saved.knowledge.states
    if states.ndim != 2 or not np.isfinite(states).all() or saved.coexpression.shape[0] != num_genes:
        raise ValueError("states or coexpression")
    if saved.genes.min() < 0 or saved.genes.max() >= len(states):
        raise ValueError("genes")
    if saved.knowledge.graph is not None and saved.knowledge.graph.shape[0] != len(states):
        raise ValueError("graph")
    sources = {"own", "states"} | ({"graph"} if saved.knowledge.graph is not None else set())
    for choice in saved.choices.values():
        if not set(choice.kernel.weights) <= sources:
            raise ValueError("kernel")
    for name in ("model", "perturbation_key", "control", "held_out", "gene_symbols"):
        saved.card[name]
    if len(saved.card["gene_symbols"]) != num_genes:
        raise ValueError("gene_symbols")
