"""Whether scores of gene pairs find known edges, and how much better than chance.

Early precision: the share of known edges among as many best pairs as there are known edges. AUPRC: the area under the
precision-recall curve. Both are divided by the density, the share of known edges among all pairs, which is what random
scores get: 1 is chance (BEELINE, Pratapa et al. 2020). Pairs with the same score count as in random order. The AUROC
of each source alone says whether its targets are found, whatever the other sources' scores.

Known edges are incomplete: a pair that is not among them may be an edge. Ratios compare methods on the same pairs and
say nothing of how many edges there are.
Letters: T sources (transcription factors); A targets; P pairs asked; R resamples, the first of which is all sources.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy.stats import rankdata

from xtrimogene.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EdgeRanking:
    """Pairs from the best score to the worst: whose each is, whether it is known, and where scores change."""

    source: Int[np.ndarray, " P"]
    known: Bool[np.ndarray, " P"]
    ends: Int[np.ndarray, " D"]  # the last pair of each distinct score
    num_sources: int

    @classmethod
    def of(
        cls, scores: Float[np.ndarray, "T A"], known: Bool[np.ndarray, "T A"], asked: Bool[np.ndarray, "T A"]
    ) -> "EdgeRanking":
        """Rank the pairs asked.

        Raises
        ------
        ConfigError
            A score that is not finite; or no pair asked is known, or all are.
        """
        source, target = np.nonzero(asked)
        values, true = scores[source, target], known[source, target]
        if not np.isfinite(values).all():
            raise ConfigError("a pair that is asked has a score that is no finite number; ask for fewer pairs.")
        if not true.any() or true.all():
            raise ConfigError(f"{int(true.sum())} of {len(true)} pairs asked are known; some have to be, and not all.")
        order = np.argsort(-values, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(values[order])), len(order) - 1)
        return cls(source=source[order], known=true[order], ends=ends, num_sources=len(scores))

    @property
    def density(self) -> float:
        """The share of known edges among the pairs: the early precision and AUPRC of chance."""
        return float(self.known.mean())

    def ratios(self, weights: Float64[np.ndarray, "R T"] | None = None) -> Float64[np.ndarray, "R 2"]:
        """Return early precision and AUPRC, each over chance.

        Parameters
        ----------
        weights
            How often each source is drawn in each resample, as `xtrimogene.evaluation.bootstrap.unit_weights`. Default:
            once, in one resample. A resample without a known edge is NaN.
        """
        drawn = np.ones((1, self.num_sources)) if weights is None else weights
        return np.stack([self._ratios(row) for row in drawn])

    def _ratios(self, weights: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, " 2"]:
        weight = weights[self.source]
        pairs, hits = weight.cumsum()[self.ends], (weight * self.known).cumsum()[self.ends]
        if not hits[-1]:
            return np.full(2, np.nan)
        chance = hits[-1] / pairs[-1]
        found = np.interp(hits[-1], np.append(0.0, pairs), np.append(0.0, hits))  # ties: in proportion
        gained = np.diff(hits, prepend=0.0)
        precision = np.divide(hits, pairs, out=np.zeros_like(hits), where=pairs > 0)
        return np.array([found, (gained * precision).sum()]) / hits[-1] / chance


def source_aurocs(
    scores: Float[np.ndarray, "T A"], known: Bool[np.ndarray, "T A"], asked: Bool[np.ndarray, "T A"]
) -> Float64[np.ndarray, " T"]:
    """Return the AUROC of each source's known targets among its pairs; NaN where it has none, or all are known."""
    areas = np.full(len(scores), np.nan)
    for number, (row, true, there) in enumerate(zip(scores, known, asked, strict=True)):
        hit = true[there]
        num_known, num_others = int(hit.sum()), int((~hit).sum())
        if num_known and num_others:
            ranks = rankdata(row[there])
            areas[number] = (ranks[hit].sum() - num_known * (num_known + 1) / 2) / (num_known * num_others)
    return areas
