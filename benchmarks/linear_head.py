"""Which linear head reads labels off an embedding best? Mean macro-F1 over the validation sets, by scaling and C.

python benchmarks/linear_head.py MODEL... --out benchmarks/results/linear_head.json

Scalings: "each" divides a dimension by its own deviation, "together" divides all by the root mean square of the
deviations, "between" by the root of the mean of the two squares. As logistic regression on all genes has its own C,
HVG + PCA and the models each have the head that serves them best here: `xtrimogene.evaluation.classifiers.classify`.
"""

import argparse
import itertools
import json
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from embedding_quality import ROOT, embed_with, read_tasks
from jaxtyping import Float, Shaped
from studies import SHARED

from xtrimogene import checkpoint
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.evaluation.baselines import HvgPca
from xtrimogene.evaluation.benchmark_sets import VALIDATION
from xtrimogene.evaluation.classifiers import LinearClassifier
from xtrimogene.evaluation.metrics import macro_f1
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.tasks import Task

Scaling = Literal["each", "between", "together"]
Place = Callable[[Task, Split], Float[np.ndarray, "N P"]]  # vectors of a task's cells, for one of its splits
STRENGTHS = (0.01, 0.1, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", metavar="MODEL", nargs="*", help="what xt.load accepts")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "embedding_quality")
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    studies, tasks, needed = read_tasks(VALIDATION, GeneVocabulary.human(), options.shared / "data")
    scores = {"HVG + PCA": sweep(tasks, place_by_pca)}
    for model in options.models:
        embed = embed_with(checkpoint.load(model), options)
        vectors = {name: embed(study, needed[name]) for name, study in studies.items()}
        scores[model] = sweep(tasks, place_by_model(vectors))
    for name, heads in scores.items():
        print(f"{name}\n{'scaling, C':<15}" + "".join(f"{task.name[:11]:>12}" for task in tasks) + f"{'mean':>8}")
        for head, values in heads.items():
            print(f"{head:<15}" + "".join(f"{value:12.3f}" for value in values) + f"{np.mean(values):8.3f}")
    if options.out is not None:
        options.out.write_text(
            json.dumps({"tasks": [task.name for task in tasks], "macro_f1": scores}, indent=1) + "\n"
        )


def place_by_pca(task: Task, split: Split) -> Float[np.ndarray, "N P"]:
    counts = task.counts[:, task.genes]
    return HvgPca.fit(counts[split.train]).transform(counts)


def place_by_model(vectors: Mapping[str, Float[np.ndarray, "_ P"]]) -> Place:
    return lambda task, _: task.gather(vectors)


def sweep(tasks: list[Task], place: Place) -> dict[str, list[float]]:
    """Return macro-F1 of every task, the mean over seeds, by head."""
    heads = list(itertools.product(get_args(Scaling), STRENGTHS))
    scores: dict[str, list[float]] = {f"{scaling}, {strength:g}": [] for scaling, strength in heads}
    for task in tasks:
        truth = task.labels[task.tested]
        placed = {(seed, split.name): place(task, split) for seed, splits in enumerate(task.splits) for split in splits}
        for values, head in zip(scores.values(), heads, strict=True):
            predict = partial(predict_split, task, placed, *head)
            values.append(round(float(np.mean([macro_f1(truth, answer) for answer in task.predict(predict)])), 4))
    return scores


def predict_split(
    task: Task,
    placed: Mapping[tuple[int, str], Float[np.ndarray, "_ _"]],
    scaling: Scaling,
    strength: float,
    split: Split,
    seed: int,
) -> Shaped[np.ndarray, " B"]:
    vectors = placed[seed, split.name].astype(np.float64)
    train = vectors[split.train]
    variance = train.var(axis=0)
    share = {"each": 0.0, "between": 0.5, "together": 1.0}[scaling]  # of the mean variance
    variance = (1 - share) * variance + share * variance.mean()
    fitted = LinearClassifier.fit(train, task.labels[split.train], variance=variance, strength=strength)
    return fitted.labels[fitted.scores(vectors[split.test]).argmax(axis=1)]


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning)
    main()
