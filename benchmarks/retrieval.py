"""Of the cells nearest to a cell, how many are of its type? Our vectors beside HVG + PCA, across donors and studies.

python benchmarks/retrieval.py --validation --out benchmarks/results/retrieval_validation.json
python benchmarks/retrieval.py --test --out benchmarks/results/retrieval_test.json

The tasks are those of embedding_quality.py: training cells are the index, test cells ask, and every indexed cell of a
query's type is a right answer. All are compared; 100 answers are returned. "mrr", "map", "recall" and "mmrr" are as in
xtrimogene.evaluation.retrieval; means over queries, in three draws of the folds where there are folds, with 95 % of a
bootstrap over queries (so for these donors). "xt.tl.search" is what it does: the mean of the cosines of our vectors
and, with half of their weight, of HVG + PCA (fitted on the indexed cells). Beside it, each of the two alone, by the
cosine counted from the index's mean, the plain cosine, and the distance; and other weights, which were compared on the
validation sets.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
from annotation import prepare, read_options
from embed import describe_machine
from jaxtyping import Float, Shaped

from xtrimogene.evaluation.baselines import HvgPca
from xtrimogene.evaluation.retrieval import RetrievalScores
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.tasks import Task
from xtrimogene.tasks.cell_search.cell_space import EMBEDDING_WEIGHT, unit

ANSWERS = 100
COMPARED = ("mmrr", "mmrr_of_best")
MEASURES = [field.name for field in fields(RetrievalScores)]
NEAREST = {
    "centered cosine": lambda known, asked: unit(asked - known.mean(axis=0)) @ unit(known - known.mean(axis=0)).T,
    "cosine": lambda known, asked: unit(asked) @ unit(known).T,
    "distance": lambda known, asked: 2 * asked @ known.T - np.square(known).sum(axis=1),
}
OURS = "xt.tl.search"
THEIRS = ("HVG + PCA, centered cosine", "HVG + PCA, distance", "model, centered cosine")
WEIGHTS = {OURS: EMBEDDING_WEIGHT, "both, 1 : 1": 1 / 2, "both, 1 : 2": 1 / 3}  # of the embedding's cosine


def main() -> None:
    options = read_options(__doc__)
    model, _, tasks, placed = prepare(options)
    report = {"sha256": model.sha256, "answers": ANSWERS, "tasks": []}
    for task in tasks:
        scores = [of_seed(task, task.gather(placed), splits, seed) for seed, splits in enumerate(task.splits)]
        measured = {
            name: {one: interval([seed[name][one] for seed in scores]) for one in MEASURES} for name in scores[0]
        }
        beside = {
            other: {one: interval([seed[OURS][one] - seed[other][one] for seed in scores]) for one in COMPARED}
            for other in THEIRS
        }
        report["tasks"].append({"task": task.name, "scores": measured, "above": beside})
        print(to_text(report["tasks"][-1]), flush=True)
    report["machine"] = describe_machine()
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


def of_seed(
    task: Task, embedding: Float[np.ndarray, "N P"], splits: Sequence[Split], seed: int
) -> dict[str, dict[str, Float[np.ndarray, " N"]]]:
    """Return the scores of every cell, NaN where it did not ask or its type is not in the index."""
    scores: dict[str, dict[str, Float[np.ndarray, " N"]]] = {}
    for split in splits:
        fitted = HvgPca.fit(task.counts[split.train], seed=seed)
        spaces = {
            "model": (embedding[split.train], embedding[split.test]),
            "HVG + PCA": tuple(fitted.transform(task.counts[rows]) for rows in (split.train, split.test)),
        }
        cosines = [NEAREST["centered cosine"](*space) for space in spaces.values()]
        nearness = {f"{space}, {how}": near(*spaces[space]) for space in spaces for how, near in NEAREST.items()}
        nearness |= {how: weight * cosines[0] + (1 - weight) * cosines[1] for how, weight in WEIGHTS.items()}
        judged = split.test[np.isin(task.labels[split.test], task.labels[split.train])]
        for method, near in nearness.items():
            found = judge(near, task.labels[split.train], task.labels[split.test])
            own = scores.setdefault(method, {name: np.full(len(task.labels), np.nan) for name in MEASURES})
            for name in MEASURES:
                own[name][judged] = getattr(found, name)
    return scores


def judge(
    nearness: Float[np.ndarray, "T A"], known: Shaped[np.ndarray, " A"], asked: Shaped[np.ndarray, " T"]
) -> RetrievalScores:
    num_right = (asked[:, None] == known).sum(axis=1)
    order = np.argsort(-nearness, axis=1, kind="stable")[:, :ANSWERS]
    right = known[order] == asked[:, None]
    return RetrievalScores.of(right[num_right > 0], num_right[num_right > 0])


def interval(by_seed: Sequence[Float[np.ndarray, " N"]]) -> list[float]:
    """Return the mean, and 95 % of a bootstrap over queries."""
    asked = np.isfinite(by_seed).any(axis=0)
    values = np.nanmean(np.stack(by_seed)[:, asked], axis=0)
    random = np.random.default_rng(0)
    means = [values[random.integers(0, len(values), len(values))].mean() for _ in range(2000)]
    return [float(values.mean()), *(float(one) for one in np.quantile(means, [0.025, 0.975]))]


def to_text(task: Mapping[str, dict]) -> str:
    lines = [f"\n{task['task']}", f"  {'':<28}" + "".join(f"{name:>14}" for name in MEASURES)]
    for method, scores in task["scores"].items():
        lines.append(f"  {method:<28}" + "".join(f"{scores[name][0]:>14.3f}" for name in MEASURES))
    for other, above in task["above"].items():
        for one, (mean, low, high) in above.items():
            lines.append(f"  {one} above {other}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
