"""Labels that other libraries' methods give the cells of a benchmark's task: CellTypist, Harmony, scVI and scANVI.

scVI and scANVI are trained for as long as scvi-tools' own rule says, which takes minutes a seed on a CPU, so
answers are kept in the cache. C of a logistic regression is chosen on inner folds of the training cells.
"""

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Shaped

from xtrimogene.evaluation import choice, trials
from xtrimogene.evaluation.baseline_cache import cached_predictions
from xtrimogene.evaluation.comparison import Method, Predictions
from xtrimogene.evaluation.outside import celltypist, harmony, scvi
from xtrimogene.evaluation.outside.methods import outside_run, suits
from xtrimogene.evaluation.study import PACKAGES, STRENGTHS, Outside
from xtrimogene.evaluation.tasks import SEEDS, Task
from xtrimogene.evaluation.trials import run_trials

CODE: Mapping[Outside, ModuleType] = {"celltypist": celltypist, "harmony": harmony, "scvi": scvi, "scanvi": scvi}
NUM_INNER_FOLDS = 3


def outside_predictions(task: Task, groups: Shaped[np.ndarray, " N"] | None, cache: Path) -> dict[Method, Predictions]:
    """Read each method's labels from the cache, or run it; inner folds keep ``groups`` of cells apart."""

    def run(name: Outside) -> Mapping[Method, Predictions]:
        runs = [outside_run(name, STRENGTHS)]
        return run_trials(
            task, runs, groups=groups, group_name="group", num_inner_folds=NUM_INNER_FOLDS, seeds=SEEDS
        ).predictions

    predictions: dict[Method, Predictions] = {}
    for name, (_, package) in PACKAGES.items():
        if suits(name, task):
            predictions |= cached_predictions(
                task,
                cache,
                partial(run, name),
                made_by=f"{name}, {package} {version(package)}",
                code=(CODE[name], choice, trials),
            )
    return predictions
