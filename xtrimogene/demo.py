"""What ``xtrimogene demo`` does: embed real cells, annotate a held-out part, compare with baselines, and keep it all.

The blood cells of the sample were not trained on. Labels are learned in eight lanes of the sequencer, E2L1 to E2L8, and
tested in the other five, L1 to L5.
"""

import json
import textwrap
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from jaxtyping import Bool

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.bootstrap import Interval
from xtrimogene.evaluation.classifiers import CLASSIFIERS, Classifier, classify
from xtrimogene.evaluation.comparison import TaskResult, compare, run_baselines
from xtrimogene.evaluation.task_tables import as_dict
from xtrimogene.evaluation.tasks import Source, Study, Task, TaskPlan, build_task
from xtrimogene.inference import Inference
from xtrimogene.long_work import whole_file
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.pl import embedding, umap_coordinates
from xtrimogene.tl import embed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, RANDOM = "xtrimogene", "random weights"
HELD_OUT_LANES = ("L1", "L2", "L3", "L4", "L5")
_CLASSIFIER_NAMES: dict[Classifier, str] = {"linear": "logistic regression", "knn": "15 nearest neighbours"}

Say = Callable[[str], None]


def sample_cells() -> AnnData:
    """Return the bundled blood cells, with ``cell_type`` and ``lane``; their source is in data/README.md."""
    with resources.as_file(resources.files("xtrimogene") / "assets" / "sample_cells.h5ad") as path:
        return read_h5ad(path)


def run(folder: Path, *, model: PretrainedModel | str = "demo", say: Say) -> TaskResult:
    """Do all of it, write into ``folder`` (replacing what an earlier demo wrote), and ``say`` what is found."""
    started = time.perf_counter()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made ({error.strerror}); name another folder with --out.") from error
    loaded = load(model)
    cells = sample_cells()
    held_out = cells.obs["lane"].isin(HELD_OUT_LANES).to_numpy()
    say(f"{cells.n_obs:,} blood cells x {cells.n_vars:,} genes (Hao 2021) that the model was not trained on")
    embed(cells, loaded)
    say(f"embedded as {cells.obsm['X_xtrimogene'].shape[1]} numbers each, {time.perf_counter() - started:.0f} s")
    label_held_out(cells, held_out)
    result = _compare(cells, loaded, held_out)
    number = f"{held_out.sum():,} cells (lanes L1-L5)"
    say(f"\nLabels of {number}, learned from {(~held_out).sum():,} cells (lanes E2L1-E2L8).")
    say("Donors are not named and may be on both sides; new ones would be harder.")
    say("Macro-F1 and its 95 % interval:\n")
    say(score_table(result))
    say("")
    for sentence in verdicts(result):
        say(sentence)
    cells.obsm["X_umap"] = umap_coordinates(cells.obsm["X_xtrimogene"])
    _write(folder, cells, result)
    say(_last_words(folder, time.perf_counter() - started))
    return result


def label_held_out(cells: AnnData, held_out: Bool[np.ndarray, "cells"]) -> None:
    """Write ``obs["xtrimogene_label"]``: learned from the other cells in the held-out ones, missing elsewhere."""
    labels = cells.obs["cell_type"].astype(str).to_numpy()
    vectors = cells.obsm["X_xtrimogene"]
    predicted = np.full(cells.n_obs, None, dtype=object)
    predicted[held_out] = classify(vectors[~held_out], labels[~held_out], vectors[held_out], classifier="linear")
    cells.obs["xtrimogene_label"] = pd.Categorical(predicted, categories=cells.obs["cell_type"].cat.categories)


def _compare(cells: AnnData, model: PretrainedModel, held_out: Bool[np.ndarray, "cells"]) -> TaskResult:
    task = _task(cells, model, held_out)
    untrained = PretrainedModel(XTrimoGene(model.config, seed=1).eval().requires_grad_(False), model.genes)
    ours = cells.obsm["X_xtrimogene"]
    embeddings = {OURS: [np.concatenate([ours[~held_out], ours[held_out]])]}
    embeddings[RANDOM] = [Inference(untrained).cell_embeddings(task.counts)]
    return compare(task, embeddings, run_baselines(task))


def _task(cells: AnnData, model: PretrainedModel, held_out: Bool[np.ndarray, "cells"]) -> Task:
    """Both parts as studies of their own; three seeds draw 90 % of the labelled cells each."""
    with open_cells(cells) as source:
        matched = MatchedCounts.find(source, model.genes)
        counts = matched.all()
    labels = cells.obs["cell_type"].astype(str).to_numpy()
    studies = {
        name: Study(name=name, counts=counts[rows], measured=matched.match.measured, obs={"cell_type": labels[rows]})
        for name, rows in (("labelled lanes", ~held_out), ("held-out lanes", held_out))
    }
    return build_task(TaskPlan(name="demo", sources=tuple(Source(study=name) for name in studies)), studies)


def score_table(result: TaskResult) -> str:
    """Return macro-F1 by features and classifier, at most 80 columns wide."""
    cells: dict[str, dict[str | None, str]] = {}
    for score in result.scores:
        cells.setdefault(score.method.features, {})[score.method.classifier] = _interval(score.macro_f1)
    header = f"{'':<22}" + "".join(f"{_CLASSIFIER_NAMES[classifier]:<25}" for classifier in CLASSIFIERS)
    rows = [
        f"{features:<22}" + "".join(f"{texts.get(classifier, texts.get(None, '-')):<25}" for classifier in CLASSIFIERS)
        for features, texts in cells.items()
    ]
    return "\n".join(line.rstrip() for line in (header, *rows))


def verdicts(result: TaskResult) -> Iterator[str]:
    """Say plainly what our embedding beats and what it loses to, one sentence for each classifier."""
    words = {"beats": "beats", "ties": "ties with", "loses": "loses to"}
    for classifier in CLASSIFIERS:
        met = [difference for difference in result.differences if difference.method.classifier == classifier]
        parts = []
        for verdict, word in words.items():
            names = [f"{d.baseline.features} ({d.macro_f1.mean:+.2f})" for d in met if d.verdict == verdict]
            if names:
                parts.append(f"{word} {', '.join(names)}")
        sentence = f"With {_CLASSIFIER_NAMES[classifier]}, {OURS} {'; '.join(parts)}."
        yield textwrap.fill(sentence, 80, break_on_hyphens=False)


def _interval(interval: Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _draw(cells: AnnData) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14.0, 5.6), layout="constrained")  # without pyplot: no window, whatever the backend
    left, right = figure.subplots(1, 2)
    embedding(cells, "cell_type", key="X_umap", title="Labels of the study", ax=left)
    right_title = "Predicted in the held-out lanes (grey: the cells learned from)"
    embedding(cells, "xtrimogene_label", key="X_umap", title=right_title, ax=right)
    return figure


def _write(folder: Path, cells: AnnData, result: TaskResult) -> None:
    with whole_file(folder / "cells.h5ad") as place:
        cells.write_h5ad(place, compression="gzip")
    with whole_file(folder / "cells.png") as place:
        _draw(cells).savefig(place, dpi=150)
    with whole_file(folder / "scores.json") as place:
        place.write_text(json.dumps(as_dict([result]), indent=1) + "\n")


def _last_words(folder: Path, seconds: float) -> str:
    return f"""
Done in {seconds:.0f} s. In {folder}:
  cells.png    the embedding on a plane (UMAP): labels, and our predictions
  cells.h5ad   the cells with the embedding (obsm) and the predictions (obs)
  scores.json  every score, label by label
Next, your own cells (.h5ad or .zarr, human, raw counts or log1p):
  xtrimogene check yours.h5ad
  xtrimogene embed yours.h5ad embedded.h5ad"""
