"""Baselines do not depend on the model: keep what they predicted while cells, splits and code are the same."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import sklearn

from xtrimogene.evaluation import baselines, classifiers, comparison, metrics
from xtrimogene.evaluation.comparison import Baselines, Method, Space, run_baselines
from xtrimogene.evaluation.metrics import ClusterScores
from xtrimogene.evaluation.tasks import Task


def cached_baselines(task: Task, folder: Path) -> Baselines:
    """Read the task's baselines from the folder, or run them and write them there."""
    path = folder / f"{fingerprint(task)}.json"
    if path.exists():
        return _decode(json.loads(path.read_text()))
    known = run_baselines(task)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(_encode(known)))
    unfinished.replace(path)
    return known


def fingerprint(task: Task) -> str:
    """sha256 over all that a baseline reads (counts, genes, labels, groups, splits) and over the code that runs it."""
    digest = hashlib.sha256(sklearn.__version__.encode())
    for module in (baselines, classifiers, comparison, metrics):
        assert module.__file__ is not None
        digest.update(Path(module.__file__).read_bytes())
    counts = task.counts
    arrays = [counts.data, counts.indices, counts.indptr, task.genes, task.labels, task.groups, np.array(task.mixing)]
    arrays += [rows for splits in task.splits for split in splits for rows in (split.train, split.test)]
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def _encode(known: Baselines) -> dict[str, Any]:
    predictions = []
    for method, by_seed in known.predictions.items():
        labels, codes = np.unique(np.stack(by_seed), return_inverse=True)
        coded = {"labels": labels.tolist(), "codes": codes.reshape(len(by_seed), -1).tolist()}
        predictions.append({"method": asdict(method), **coded})
    return {"predictions": predictions, "space": asdict(known.space)}


def _decode(stored: dict[str, Any]) -> Baselines:
    predictions = {
        Method(**kept["method"]): tuple(np.array(kept["labels"])[codes] for codes in kept["codes"])
        for kept in stored["predictions"]
    }
    clusters = ClusterScores(**stored["space"]["clusters"])
    return Baselines(predictions=predictions, space=Space(clusters=clusters, mixing=stored["space"]["mixing"]))
