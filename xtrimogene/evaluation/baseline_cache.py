"""Baselines do not depend on the model: keep what they predicted while cells, splits and code are the same."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import sklearn

from xtrimogene.evaluation import baselines, classifiers, comparison, metrics
from xtrimogene.evaluation.comparison import Baselines, Method, Predictions, Space, run_baselines
from xtrimogene.evaluation.metrics import ClusterScores
from xtrimogene.evaluation.tasks import Task
from xtrimogene.long_work import whole_file

Decoded = dict[str, Any]


def cached_baselines(task: Task, folder: Path) -> Baselines:
    """Read the task's baselines from the folder, or run them and write them there."""

    def run() -> Decoded:
        known = run_baselines(task)
        return {"predictions": _encode(known.predictions), "space": asdict(known.space)}

    stored = _kept(folder / f"{fingerprint(task)}.json", run)
    clusters = ClusterScores(**stored["space"]["clusters"])
    return Baselines(
        predictions=_decode(stored["predictions"]), space=Space(clusters=clusters, mixing=stored["space"]["mixing"])
    )


def cached_predictions(
    task: Task,
    folder: Path,
    predict: Callable[[], Mapping[Method, Predictions]],
    *,
    made_by: str,
    code: Sequence[ModuleType],
) -> dict[Method, Predictions]:
    """Read what other methods predict from the folder, or predict and write it there.

    Parameters
    ----------
    made_by
        Tells the methods, their settings and the version of their library.
    code
        The modules that run them.
    """
    path = folder / f"{fingerprint(task, made_by, code)}.json"
    return _decode(_kept(path, lambda: {"predictions": _encode(predict())})["predictions"])


def fingerprint(task: Task, made_by: str = "", code: Sequence[ModuleType] = ()) -> str:
    """sha256 over all that a method reads (counts, genes, labels, groups, splits) and over the code that runs it."""
    digest = hashlib.sha256(sklearn.__version__.encode() + made_by.encode())
    for module in (baselines, classifiers, comparison, metrics, *code):
        assert module.__file__ is not None
        digest.update(Path(module.__file__).read_bytes())
    counts = task.counts
    arrays = [counts.data, counts.indices, counts.indptr, task.genes, task.labels, task.groups, np.array(task.mixing)]
    arrays += [rows for splits in task.splits for split in splits for rows in (split.train, split.test)]
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def _kept(path: Path, make: Callable[[], Decoded]) -> Decoded:
    if path.exists():
        stored: Decoded = json.loads(path.read_text())
        return stored
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as scratch:
        scratch.write_text(json.dumps(made))
    return made


def _encode(predictions: Mapping[Method, Predictions]) -> list[Decoded]:
    encoded = []
    for method, by_seed in predictions.items():
        labels, codes = np.unique(np.stack(by_seed), return_inverse=True)
        coded = {"labels": labels.tolist(), "codes": codes.reshape(len(by_seed), -1).tolist()}
        encoded.append({"method": asdict(method), **coded})
    return encoded


def _decode(stored: list[Decoded]) -> dict[Method, Predictions]:
    return {
        Method(**kept["method"]): tuple(np.array(kept["labels"])[codes] for codes in kept["codes"]) for kept in stored
    }
