"""A study's result, drawn: macro-F1 of every method with its interval, confusion and calibration."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from xtrimogene.evaluation.annotation_result import AnnotationResult
from xtrimogene.pl import annotation
from xtrimogene.pl.embedding import FEW_COLOURS, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUE, GIVEN = "true label", "label given"
OTHERS = "other labels"


def macro_f1(result: AnnotationResult, *, ax: "Axes | None" = None) -> "Axes":
    """Draw each method's macro-F1 with its interval, the best at the top; ours in another colour."""
    scores = sorted(result.scores.scores, key=lambda score: score.macro_f1.mean)
    if ax is None:
        ax = new_axes(7.5, 1.0 + 0.3 * len(scores))
    own = {result.ours.features, "embedding"}
    for place, score in enumerate(scores):
        one = score.macro_f1
        colour = FEW_COLOURS[0] if score.method.features in own else "#555555"
        ax.errorbar(
            one.mean,
            place,
            xerr=[[max(one.mean - one.low, 0)], [max(one.high - one.mean, 0)]],
            fmt="D" if score.method == result.ours else "o",
            color=colour,
            capsize=3,
            markersize=7 if score.method == result.ours else 5,
        )
        ax.text(1.01, place, f"{one.mean:.3f}", transform=ax.get_yaxis_transform(), va="center", fontsize=9)
    ours = result.score_of(result.ours).macro_f1.mean
    ax.axvline(ours, color=FEW_COLOURS[0], linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(scores)), [str(score.method) for score in scores])
    for tick, score in zip(ax.get_yticklabels(), scores, strict=True):
        tick.set_fontweight("bold" if score.method == result.ours else "normal")
    ax.set(xlim=(0, 1), xlabel="macro-F1, 95 % interval", title=result.scores.task)
    ax.grid(axis="x", linewidth=0.4, alpha=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def confusion(result: AnnotationResult, *, ax: "Axes | None" = None) -> "Axes":
    """Draw what our method takes for what under the first seed; past 40 labels, the rarest are one."""
    truth, given = (labels.astype(object) for labels in (result.truth, result.predicted))
    names, numbers = np.unique(np.concatenate([truth, given]).astype(str), return_counts=True)
    if len(names) > annotation.MOST_LABELS:
        kept = names[np.argsort(-numbers, kind="stable")[: annotation.MOST_LABELS - 1]]
        truth, given = (np.where(np.isin(labels, kept), labels, OTHERS) for labels in (truth, given))
    given = np.where(given == "", "no label", given)
    cells = AnnData(obs=pd.DataFrame({TRUE: truth, GIVEN: given}, index=[f"{cell}" for cell in range(len(truth))]))
    return annotation.confusion(cells, TRUE, GIVEN, ax=ax, title=f"{result.ours}, {len(truth):,} cells")


def calibration(result: AnnotationResult, *, ax: "Axes | None" = None) -> "Axes":
    """Draw how often our method is right at each confidence, where the right label was among those learned."""
    obs = {
        TRUE: np.full(len(result.right), "right"),
        "our_label": np.where(result.right, "right", "wrong"),
        "our_confidence": result.confidence,
        "our_unknown": np.zeros(len(result.right), dtype=bool),
    }
    cells = AnnData(obs=pd.DataFrame(obs, index=[f"{cell}" for cell in range(len(result.right))]))
    title = None
    if result.ours in result.worth:
        title = f"{result.ours}: off by {result.worth[result.ours].calibration_error:.3f}"
    return annotation.calibration(cells, TRUE, key="our", ax=ax, title=title)
