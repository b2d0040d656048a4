"""Do a query and its reference lie together by type where `xt.tl.map_to_reference` lays them? scIB's scores.

python benchmarks/integration.py --validation --out benchmarks/results/integration_validation.json
python benchmarks/integration.py --test --out benchmarks/results/integration_test.json

The tasks are those of embedding_quality.py that go from one study, donor, library or platform to another: training
cells are the reference, test cells the query, and the two are the batches that are to mix. A fold of fewer than 20 test
cells, or without a label on both sides, is left out. Beside our space stand the embedding alone, HVG + PCA of both
together, and Harmony on that and on ours without alignment; unlike ours, these PCA and Harmony place the reference's
cells anew with each query. Scores are means over folds or, from study to study, three draws of the reference, with the
least and the most of them. "knn" is the macro-F1 of the vote of the 15 nearest reference cells in each space, "labels"
that of the labels which `xt.tl.map_to_reference` gives, with 95 % of a bootstrap over cells and seeds. It needs
harmonypy beside the extra eval. Most of the time goes into kBET, which jax compiles for each number of cells.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import harmonypy
import numpy as np
import pandas as pd
from annotation import prepare, read_options
from embed import describe_machine
from jaxtyping import Float, Shaped

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.baselines import joint_hvg_pca
from xtrimogene.evaluation.bootstrap import macro_f1_interval
from xtrimogene.evaluation.classifiers import NeighborClassifier
from xtrimogene.evaluation.integration import IntegrationScores, integration_scores
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.tasks import Task
from xtrimogene.tasks.annotation.learned import Learned
from xtrimogene.tasks.joint_space import JointSpace
from xtrimogene.tasks.local_shift import LocalShift, voters

OURS = "xt.tl.map_to_reference"
LEAST_CELLS = 20
Places = Mapping[str, Float[np.ndarray, "N _"]]
Labels = Shaped[np.ndarray, " T"]


def main() -> None:
    options = read_options(__doc__)
    model, _, tasks, placed = prepare(options)
    report: dict[str, Any] = {"sha256": model.sha256, "machine": describe_machine(), "tasks": []}
    for task in tasks:
        if task.grouping == "cell":
            continue
        report["tasks"].append(measure(task, task.gather(placed)))
        print(to_text(report["tasks"][-1]), flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(report, indent=1) + "\n")


def measure(task: Task, embedding: Float[np.ndarray, "N P"]) -> dict[str, Any]:
    scores: dict[str, list[IntegrationScores]] = {}  # one for each fold and seed
    transferred: dict[str, list[Labels]] = {}
    num_aligned = num_folds = 0
    for seed, splits in enumerate(task.splits if task.grouping == "study" else task.splits[:1]):
        of_seed: dict[str, Labels] = {}
        for split in splits:
            places, labels, aligned = lay(task, embedding, split, seed)
            num_aligned, num_folds = num_aligned + aligned, num_folds + 1
            rows = np.concatenate([split.train, split.test])
            batch = np.repeat(["reference", "query"], [len(split.train), len(split.test)])
            for name, place in places.items():
                nearest = NeighborClassifier.fit(place[: len(split.train)], task.labels[split.train])
                voted = nearest.labels[nearest.scores(place[len(split.train) :]).argmax(axis=1)]
                of_seed.setdefault(f"{name}, knn", task.labels.astype("U64"))[split.test] = voted
                if len(split.test) < LEAST_CELLS:
                    continue
                try:
                    scores.setdefault(name, []).append(integration_scores(place, task.labels[rows], batch))
                except ConfigError:
                    continue
            of_seed.setdefault(f"{OURS}, labels", task.labels.astype("U64"))[split.test] = labels
        for name, labels in of_seed.items():
            transferred.setdefault(name, []).append(labels[task.tested])
    truth = task.labels[task.tested]
    return {
        "task": task.name,
        "tested": len(truth),
        "aligned": [num_aligned, num_folds],
        "scores": {name: summary(of_seeds) for name, of_seeds in scores.items()},
        "macro_f1": {
            name: [found.mean, found.low, found.high]
            for name, by_seed in transferred.items()
            for found in [macro_f1_interval(truth, tuple(by_seed))]
        },
    }


def lay(task: Task, embedding: Float[np.ndarray, "N P"], split: Split, seed: int) -> tuple[Places, Labels, bool]:
    """Return places of reference and query in each space, the query's labels, and whether it was aligned."""
    train, test = split.train, split.test
    learned = Learned.fit(
        "ensemble", embedding[train], task.counts[train], task.labels[train], read=task.genes, seed=seed
    )
    known, asked = (learned.view(embedding[rows], task.counts[rows], task.genes) for rows in (train, test))
    moved, aligned = learned.align(asked)
    space, genes = JointSpace.fit(known), np.flatnonzero(task.genes)
    fixed, shifted = space.place(known), space.place(moved)
    laid = LocalShift.fit(fixed).move(shifted, voters(learned, moved)) if aligned else shifted
    unmoved = np.vstack([fixed, space.place(asked)])
    pca = np.vstack(joint_hvg_pca(task.counts[train][:, genes], task.counts[test][:, genes], seed=seed))
    batch = np.repeat(["reference", "query"], [len(train), len(test)])
    places = {
        OURS: np.vstack([fixed, laid]),
        "ours, shifted as a whole": np.vstack([fixed, shifted]),
        "embedding": np.vstack([embedding[train], embedding[test]]),
        "joint HVG + PCA": pca,
        "ours, not aligned, Harmony": harmony(unmoved, batch, seed),
        "joint HVG + PCA, Harmony": harmony(pca, batch, seed),
    }
    return places, learned.labels[learned.scores(moved).argmax(axis=1)], aligned


def harmony(places: Float[np.ndarray, "N Q"], batch: Shaped[np.ndarray, " N"], seed: int) -> Float[np.ndarray, "N Q"]:
    cells = pd.DataFrame({"batch": batch})
    found = harmonypy.run_harmony(places.astype(np.float64), cells, "batch", verbose=False, random_state=seed).Z_corr
    return np.asarray(found if found.shape == places.shape else found.T, dtype=np.float32)


def summary(scores: Sequence[IntegrationScores]) -> dict[str, list[float]]:
    """Return the mean, the least and the most of each score, of those that have it."""
    names = (*asdict(scores[0]), "bio", "batch", "total")
    values = {name: np.array([getattr(one, name) for one in scores]) for name in names}
    had = {name: all_of[np.isfinite(all_of)] for name, all_of in values.items()}
    return {name: [float(some.mean()), float(some.min()), float(some.max())] for name, some in had.items() if len(some)}


def to_text(task: Mapping[str, Any]) -> str:
    shown = (
        "nmi",
        "ari",
        "silhouette_label",
        "clisi",
        "bras",
        "ilisi",
        "kbet",
        "graph_connectivity",
        "bio",
        "batch",
        "total",
    )
    lines = [
        f"\n{task['task']}: {task['tested']:,} cells, aligned in {task['aligned'][0]} of {task['aligned'][1]} folds"
    ]
    lines.append(f"  {'':<28}" + "".join(f"{re.sub('_.*', '', name):>11}" for name in shown) + f"{'knn':>11}")
    for name, scores in task["scores"].items():
        numbers = [scores.get(one, [np.nan])[0] for one in shown] + [task["macro_f1"][f"{name}, knn"][0]]
        lines.append(f"  {name:<28}" + "".join(f"{number:>11.3f}" for number in numbers))
    lines.append("  labels: {:.3f} [{:.3f}, {:.3f}]".format(*task["macro_f1"][f"{OURS}, labels"]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
