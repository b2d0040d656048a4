"""A predictor on disk: a folder of predictor.json and arrays.safetensors. Never a pickle.

predictor.json holds the sha256 of the arrays, of the weights of the model that embeds cell lines, and what predictions
were worth on held-out rows.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from xtrimogene.checkpoint import require_new_folder
from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.errors import CheckpointError
from xtrimogene.evaluation.bootstrap import Interval
from xtrimogene.long_work import temporary_folder
from xtrimogene.tasks.synergy.baselines import Effects
from xtrimogene.tasks.synergy.held_out import HeldOut
from xtrimogene.tasks.synergy.learned import Learned, ResponseConfig
from xtrimogene.tasks.synergy.predictor import ResponsePredictor

FORMAT = "xtrimogene-response-2"
CARD, ARRAYS = "predictor.json", "arrays.safetensors"


def save_predictor(predictor: ResponsePredictor, folder: str | os.PathLike[str]) -> Path:
    """Write the folder; nothing half-written is ever seen under its name.

    Raises
    ------
    CheckpointError
        The folder exists and holds something.
    ConfigError
        It cannot be written.
    """
    target, learned = Path(folder), predictor.learned
    require_new_folder(target)
    arrays: dict[str, np.ndarray] = {name: getattr(learned, name) for name in ("bits", "cell_mean", "cell_scale")}
    arrays |= {"seen": predictor.seen, "cells": predictor.cells}
    for number, network in enumerate(learned.networks):
        arrays |= {f"network.{number}.{name}": tensor.numpy() for name, tensor in network.state_dict().items()}
    effects = None
    if learned.effects is not None:
        arrays["effects.weights"] = learned.effects.weights
        arrays["effects.combinations"] = np.array(list(learned.effects.combinations), dtype=np.int64)
        effects = {name: getattr(learned.effects, name) for name in ("bias", "num_drugs", "num_lines")}
    with temporary_folder(target) as scratch:
        place = scratch / "predictor"
        place.mkdir()
        (place / ARRAYS).write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
        facts = {
            "format": FORMAT,
            "labels": learned.labels,
            "config": asdict(learned.config),
            "target_mean": learned.target_mean,
            "target_scale": learned.target_scale,
            "effects": effects,
            "smiles": list(predictor.smiles),
            "lines": list(predictor.lines),
            "held_out": {name: asdict(one) for name, one in predictor.held_out.items()},
            "sha256": file_sha256(place / ARRAYS),
            "card": dict(predictor.card),
        }
        (place / CARD).write_text(json.dumps(facts, indent=1) + "\n")
        os.replace(place, target)
    return target


def load_predictor(folder: str | os.PathLike[str]) -> ResponsePredictor:
    """Read the folder.

    Raises
    ------
    CheckpointError
        No such folder, a file missing, altered or of another kind.
    """
    place = Path(folder)
    try:
        facts = json.loads((place / CARD).read_text())
        if facts["format"] != FORMAT:
            raise CheckpointError(f"{place / CARD} has format {facts['format']!r}; this version reads {FORMAT!r}.")
        if file_sha256(place / ARRAYS) != facts["sha256"]:
            raise CheckpointError(f"{place / ARRAYS} is not the file this predictor was saved with; fit it again.")
        return _read(facts, load((place / ARRAYS).read_bytes()))
    except OSError as error:
        raise CheckpointError(
            f"no predictor at {str(place)!r} ({error.strerror or error}): a folder with {CARD} and {ARRAYS} is needed, "
            "as xtrimogene.training.fit_synergy or fit_response writes it."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{place} is no predictor of ours ({error!r}); fit it again.") from None


def _read(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ResponsePredictor:
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
