"""A predictor on disk: a folder of predictor.json and arrays.safetensors.

predictor.json holds the sha256 of the weights of the model that embeds cell lines, and what predictions were worth on
held-out rows.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from xtrimogene.evaluation.bootstrap import Interval
from xtrimogene.tasks.saved_folder import Arrays, Facts, SavedFolder
from xtrimogene.tasks.synergy.baselines import Effects
from xtrimogene.tasks.synergy.held_out import HeldOut
from xtrimogene.tasks.synergy.learned import Learned, ResponseConfig
from xtrimogene.tasks.synergy.predictor import ResponsePredictor

FOLDER = SavedFolder(
    what="predictor",
    format="xtrimogene-response-2",
    json_name="predictor.json",
    fitted_by="xtrimogene.training.fit_synergy or fit_response",
)


def save_predictor(predictor: ResponsePredictor, folder: str | os.PathLike[str]) -> Path:
    """Write the folder (`SavedFolder.write`)."""
    learned = predictor.learned
    arrays: dict[str, np.ndarray] = {name: getattr(learned, name) for name in ("bits", "cell_mean", "cell_scale")}
    arrays |= {"seen": predictor.seen, "cells": predictor.cells}
    for number, network in enumerate(learned.networks):
        arrays |= {f"network.{number}.{name}": tensor.numpy() for name, tensor in network.state_dict().items()}
    effects = None
    if learned.effects is not None:
        arrays["effects.weights"] = learned.effects.weights
        arrays["effects.combinations"] = np.array(list(learned.effects.combinations), dtype=np.int64)
        effects = {name: getattr(learned.effects, name) for name in ("bias", "num_drugs", "num_lines")}
    facts = {
        "labels": learned.labels,
        "config": asdict(learned.config),
        "target_mean": learned.target_mean,
        "target_scale": learned.target_scale,
        "effects": effects,
        "smiles": list(predictor.smiles),
        "lines": list(predictor.lines),
        "held_out": {name: asdict(one) for name, one in predictor.held_out.items()},
        "card": dict(predictor.card),
    }
    return FOLDER.write(folder, facts, {"arrays": arrays})


def load_predictor(folder: str | os.PathLike[str]) -> ResponsePredictor:
    """Read the folder (`SavedFolder.read`)."""
    return FOLDER.read(folder, _build)


def _build(facts: Facts, files: Mapping[str, Arrays]) -> ResponsePredictor:
    arrays = files["arrays"]
    config = ResponseConfig(**facts["config"])
    effects = None
    if facts["effects"] is not None:
        first = facts["effects"]["num_drugs"] + facts["effects"]["num_lines"]
        keys = [tuple(key) for key in arrays["effects.combinations"].tolist()]
        effects = Effects(
            weights=arrays["effects.weights"],
            combinations={key: first + number for number, key in enumerate(keys)},
            **facts["effects"],
        )
        if len(effects.weights) != first + len(keys):
            raise ValueError("effects")
    learned = Learned(
        config=config,
        labels=bool(facts["labels"]),
        bits=arrays["bits"],
        cell_mean=arrays["cell_mean"],
        cell_scale=arrays["cell_scale"],
        target_mean=float(facts["target_mean"]),
        target_scale=float(facts["target_scale"]),
        networks=(),
        effects=effects,
    )
    networks = []
    for number in range(config.num_networks):
        prefix, network = f"network.{number}.", learned.new_network()
        own = {name: array for name, array in arrays.items() if name.startswith(prefix)}
        if any(not np.isfinite(array).all() for array in own.values()):
            raise ValueError("weights")
        network.load_state_dict({name.removeprefix(prefix): torch.from_numpy(array) for name, array in own.items()})
        networks.append(network.eval().requires_grad_(False))
    held_out = {
        name: HeldOut(**{**one, "interval": Interval(**one["interval"]), "gain": Interval(**one["gain"])})
        for name, one in facts["held_out"].items()
    }
    seen, num_drugs = arrays["seen"], len(facts["smiles"])
    if seen.ndim != 2 or seen.min() < 0 or seen[:, :-1].max() >= num_drugs or seen[:, -1].max() >= len(facts["lines"]):
        raise ValueError("seen")
    if arrays["cells"].shape != (len(facts["lines"]), len(learned.cell_mean)):
        raise ValueError("cells")
    if missing := {"sha256", "model", "options"} - set(facts["card"]["model"]):
        raise KeyError(min(missing))
    return ResponsePredictor(
        learned=replace(learned, networks=tuple(networks)),
        smiles=tuple(facts["smiles"]),
        lines=tuple(facts["lines"]),
        cells=arrays["cells"],
        seen=seen,
        held_out=held_out,
        card=facts["card"],
    )
