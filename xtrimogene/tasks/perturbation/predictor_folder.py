"""A predictor on disk: a folder of perturbation.json and arrays.safetensors.

It holds the effects learned from, what is known of the model's genes, and the choices made; the closed form is solved
again when it is read.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Int
from scipy.sparse import csr_matrix

from xtrimogene.tasks.perturbation.choice import Choice
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.gene_knowledge import GeneKnowledge
from xtrimogene.tasks.perturbation.graph_network import EffectNetwork, GraphPredictor
from xtrimogene.tasks.perturbation.linear import Kernel
from xtrimogene.tasks.perturbation.predictor import Asked, Method, Predictor, linear_predictor
from xtrimogene.tasks.saved_folder import Arrays, Facts, SavedFolder

FOLDER = SavedFolder(
    what="predictor",
    format="xtrimogene-perturbation-1",
    json_name="perturbation.json",
    fitted_by="xtrimogene.tl.fit_perturbation",
    allow_nan=False,
)
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
    """Write the folder (`SavedFolder.write`)."""
    arrays = {f"train.{name}": getattr(saved.train, name) for name in NUMBERS}
    arrays |= {"genes": saved.genes, "states": saved.knowledge.states}
    for name, graph in (("graph", saved.knowledge.graph), ("coexpression", saved.coexpression)):
        if graph is not None:
            arrays |= {f"{name}.{part}": getattr(graph, part) for part in ("data", "indices", "indptr")}
    for asked, network in saved.networks.items():
        arrays |= {f"network.{asked}.{name}": tensor.numpy() for name, tensor in network.state_dict().items()}
    facts = {
        "method": saved.method,
        "networks": {asked: network.width for asked, network in saved.networks.items()},
        "perturbations": saved.train.perturbation.tolist(),
        "contexts": list(saved.train.context_names),
        "choices": {asked: _choice_facts(choice) for asked, choice in saved.choices.items()},
        "card": dict(saved.card),
    }
    return FOLDER.write(folder, facts, {"arrays": arrays})


def load_predictor(folder: str | os.PathLike[str]) -> SavedPredictor:
    """Read the folder (`SavedFolder.read`)."""
    return FOLDER.read(folder, _build)


def _build(facts: Facts, files: Mapping[str, Arrays]) -> SavedPredictor:
    arrays = files["arrays"]
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
    saved = SavedPredictor(
        method=facts["method"],
        train=train,
        knowledge=GeneKnowledge(states=states, graph=_graph(arrays, "graph") if "graph.data" in arrays else None),
        genes=arrays["genes"],
        coexpression=_graph(arrays, "coexpression"),
        choices=choices,
        networks=networks,
        card=facts["card"],
    )
    _check(saved)
    return saved


def _graph(arrays: Arrays, name: str) -> csr_matrix:
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


def _choice(facts: Facts) -> Choice:
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
