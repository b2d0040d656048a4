"""What predictions are worth on rows left out in each way, with additive effects beside them.

Letters: N rows; B tested rows; D drugs; L lines; C width of a line's vector; S seeds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Shaped
from sklearn.linear_model import LogisticRegression

from xtrimogene.evaluation.bootstrap import Interval
from xtrimogene.evaluation.pair_splits import LeftOut, PairSplits, split_pairs
from xtrimogene.evaluation.response_scores import Metric, interval, label_scores, resampled, value_scores
from xtrimogene.tasks.synergy.baselines import Effects
from xtrimogene.tasks.synergy.learned import Learned, Progress, ResponseConfig
from xtrimogene.tasks.synergy.novelty import NOVELTY_OF, Way, novelty_of, sorted_rows
from xtrimogene.tasks.synergy.response_table import DrugSet, ResponseRows

MINIMUM_TESTED = 10  # rows, to say anything of them
RANKED = ("auroc", "auprc")  # metrics of the order alone
Answer = Callable[[Int64[np.ndarray, " A"], Int64[np.ndarray, " B"]], Float32[np.ndarray, " B"]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tested:
    """Answers to all tested rows of one seed's splits, with the fold and the units each row was tested for."""

    rows: Int64[np.ndarray, " B"]
    folds: Int64[np.ndarray, " B"]
    units: Int64[np.ndarray, "B _"]
    predicted: Float32[np.ndarray, " B"]

    def at(self, kept: Bool[np.ndarray, " B"]) -> "Tested":
        return Tested(
            rows=self.rows[kept], folds=self.folds[kept], units=self.units[kept], predicted=self.predicted[kept]
        )


def answer_splits(splits: PairSplits, answer: Answer) -> Tested:
    """Ask for the test rows of every split, given its training rows."""
    said = [answer(one.train.astype(np.int64), one.test.astype(np.int64)) for one in splits.splits]
    return Tested(
        rows=np.concatenate([one.test for one in splits.splits]).astype(np.int64),
        folds=np.repeat(np.arange(len(said)), [len(one) for one in said]),
        units=np.concatenate(splits.units),
        predicted=np.concatenate(said),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """How rows left out in one way were answered.

    Rows count only where they are as new as the way says: of "cell_line", those whose combination is known of another
    line. ``scores`` are all metrics; ``interval`` is that of AUROC for labels and of Pearson's correlation for values;
    ``gain`` is its difference to additive effects. AUROC and AUPRC rank the log odds as they are; the metrics at a
    probability of 1/2 are of log odds calibrated, for either side, on the other folds. ``slope`` and ``shift``, for
    rows to come, turn log odds into probabilities that held in all folds; ``error_90`` is the absolute error that 90 %
    of values stayed below (0 for labels).
    """

    num_rows: int
    scores: Mapping[str, float]
    interval: Interval
    additive: Mapping[str, float]
    gain: Interval
    slope: float
    shift: float
    error_90: float


def ways_to_leave_out(rows: ResponseRows, tissues: Shaped[np.ndarray, " N"] | None) -> tuple[LeftOut, ...]:
    """Name the splits that this table allows."""
    pair: tuple[LeftOut, ...] = ("pair",) if rows.drugs.shape[1] > 1 else ()
    tissue: tuple[LeftOut, ...] = () if tissues is None else ("tissue",)
    return ("measurement", *pair, "drug", "cell_line", *tissue)


def measure(
    rows: ResponseRows,
    drugs: DrugSet,
    cells: Float32[np.ndarray, "L C"],
    config: ResponseConfig,
    left_out: LeftOut,
    *,
    labels: bool,
    tissues: Shaped[np.ndarray, " N"] | None = None,
    num_folds: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[Way, HeldOut]:
    """Learn without what is left out, fold by fold, and compare with what was measured.

    Returns
    -------
    What ``left_out`` tests: itself, and "drugs" beside "drug" for rows with two left-out drugs. A way is missing where
    fewer than 10 rows can be tested, or labels of one kind only.
    """
    splits = split_pairs(rows.drugs, rows.lines, left_out, tissues=tissues, num_folds=num_folds, seed=seed)

    def ours(train: Int64[np.ndarray, " A"], test: Int64[np.ndarray, " B"]) -> Float32[np.ndarray, " B"]:
        learned = Learned.fit(rows.at(train), drugs, cells, config, labels=labels, seed=seed, progress=progress)
        return learned.predict(rows.at(test), drugs, cells)

    def additive(train: Int64[np.ndarray, " A"], test: Int64[np.ndarray, " B"]) -> Float32[np.ndarray, " B"]:
        learned = Effects.fit(rows.at(train), num_drugs=len(drugs.smiles), num_lines=len(cells), labels=labels)
        return learned.predict(rows.at(test))

    if not splits.splits:
        return {}
    tested = answer_splits(splits, ours), answer_splits(splits, additive)
    parts = [(rows.at(one.test), sorted_rows(rows.at(one.train))) for one in splits.splits]
    novelty = np.concatenate([novelty_of(*one) for one in parts])
    found: dict[Way, HeldOut] = {}
    ways: tuple[Way, ...] = ("drug", "drugs") if left_out == "drug" else (left_out,)
    for way in ways:
        kept = np.isin(novelty, NOVELTY_OF[way])
        target = rows.target[tested[0].rows[kept]]
        if len(target) >= MINIMUM_TESTED and np.ptp(target) > 0:
            found[way] = summarize_held_out(rows.target, *(one.at(kept) for one in tested), labels=labels)
    return found


def summarize_held_out(target: Float32[np.ndarray, " N"], ours: Tested, additive: Tested, *, labels: bool) -> HeldOut:
    true = target[ours.rows].astype(np.float64)
    metric: Metric = "auroc" if labels else "pearson"
    spreads = [resampled(metric, [true], [one.predicted], [one.units]) for one in (ours, additive)]
    slope, shift = _calibrate(true, ours.predicted) if labels else (1.0, 0.0)
    errors = np.abs(true - ours.predicted)
    return HeldOut(
        num_rows=len(true),
        scores=_scores_by_fold(true, ours, labels=labels),
        interval=interval(spreads[0]),
        additive=_scores_by_fold(true, additive, labels=labels),
        gain=interval(spreads[0] - spreads[1]),
        slope=slope,
        shift=shift,
        error_90=0.0 if labels else float(np.quantile(errors, 0.9)),
    )


def _scores_by_fold(true: Float[np.ndarray, " B"], tested: Tested, *, labels: bool) -> dict[str, float]:
    """Return every metric; those at a probability of 1/2 of log odds calibrated on the other folds."""
    raw = scores(true, tested.predicted, labels=labels)
    if not labels:
        return raw
    calibrated = tested.predicted.astype(np.float64)
    for fold in np.unique(tested.folds):
        own = tested.folds == fold
        slope, shift = _calibrate(true[~own], tested.predicted[~own])
        calibrated[own] = slope * calibrated[own] + shift
    return scores(true, calibrated, labels=True) | {name: raw[name] for name in RANKED}


def scores(true: Float[np.ndarray, " B"], predicted: Float[np.ndarray, " B"], *, labels: bool) -> dict[str, float]:
    """Return every metric of log odds, or of values."""
    return label_scores(true, probabilities(predicted)) if labels else value_scores(true, predicted)


def probabilities(log_odds: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -30, 30))))


def _calibrate(true: Float[np.ndarray, " B"], log_odds: Float32[np.ndarray, " B"]) -> tuple[float, float]:
    """Return slope and shift of log odds that make probabilities hold here (Platt 1999); of one label, 1 and 0."""
    if not len(true) or np.ptp(true) == 0:
        return 1.0, 0.0
    fitted = LogisticRegression(C=1e6).fit(log_odds[:, None], true)
    return max(float(fitted.coef_[0, 0]), 0.0), float(fitted.intercept_[0])
