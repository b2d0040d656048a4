"""Does this cell go with this label? One pair at a time, so that labels may be left out or added at the end.

A label that the reference has cells of is judged by what was learned of them and by its marker genes; one described by
marker genes alone, by these. Of marker genes two things are read: how much more of them was measured in a cell than is
usual in the reference, and how much more its latent vector says there is, which chance in the counting hardly moves.

Letters: A reference cells; B cells asked for; G genes of the model; P width of the embedding; L labels; K markers of
each; m genes; F = 2 + E numbers say of a pair what was learned and its markers, E = 1 or 2 the markers alone.
Source of the reformulation, a binary classifier of pairs for a choice of many: arXiv 2011.03292.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix, vstack
from sklearn.linear_model import LogisticRegression

from xtrimogene.tasks.annotation.latent_expression import LatentExpression

NUM_MARKERS = 10
LEAST_LOG_PROBABILITY = -12.0
AT_ONCE = 8_192  # cells whose vectors are expanded together


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MarkerValues:
    """log1p of counts per 10,000 of some ``genes``, ascending; 0 where one is not ``measured``."""

    values: csr_matrix  # B x m
    genes: Int[np.ndarray, " m"]
    measured: Bool[np.ndarray, " m"]

    def rows(self, rows: Shaped[np.ndarray, " _"]) -> "MarkerValues":
        return replace(self, values=self.values[rows])

    @staticmethod
    def join(parts: "Sequence[MarkerValues]") -> "MarkerValues":
        """Put cells of the same genes one after the other."""
        return replace(parts[0], values=vstack([part.values for part in parts], format="csr"))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pairs:
    """Evidence of pairs of a cell and a label, whether they belong together, and what each pair weighs."""

    evidence: Float[np.ndarray, "N F"]
    right: Bool[np.ndarray, " N"]
    weight: Float[np.ndarray, " N"]

    @staticmethod
    def join(parts: "Sequence[Pairs]") -> "Pairs":
        return Pairs(
            evidence=np.concatenate([part.evidence for part in parts]),
            right=np.concatenate([part.right for part in parts]),
            weight=np.concatenate([part.weight for part in parts]),
        )

    def fit(self) -> Float[np.ndarray, " F1"]:
        """Return the weights of the log odds that a pair belongs together, the constant last."""
        model = LogisticRegression(max_iter=1000)
        model.fit(self.evidence, self.right, sample_weight=self.weight / self.weight.mean())
        return np.append(model.coef_[0], model.intercept_[0])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MarkerEvidence:
    """What is usual of every gene in the reference's cells; ``markers`` are those of each label, best first.

    ``usual`` is the mean of what was measured; ``center`` is the mean cell's embedding, of which the model is asked
    what is usual.
    """

    markers: Int[np.ndarray, "L K"]
    usual: Float[np.ndarray, " G"]
    center: Float[np.ndarray, " P"]
    expression: LatentExpression | None

    @classmethod
    def fit(
        cls,
        values: csr_matrix,
        embedding: Float[np.ndarray, "A P"],
        labels: Shaped[np.ndarray, " A"],
        *,
        read: Bool[np.ndarray, " G"],
        expression: LatentExpression | None,
        num_markers: int = NUM_MARKERS,
    ) -> "MarkerEvidence":
        """Choose markers, of ``read``: the genes whose mean ``values`` (A x G) exceed every other label's by most."""
        names, label = np.unique(labels, return_inverse=True)
        cells = np.bincount(label)
        of_label = csr_matrix((1 / cells[label], (label, np.arange(len(label)))), shape=(len(names), len(label)))
        means = np.asarray((of_label @ values).toarray(), dtype=np.float64)  # (L, G)
        highest = np.sort(means, axis=0)[-2:]  # the best two of each gene
        ahead = means - np.where(means == highest[-1], highest[0], highest[-1])
        ahead[:, ~read] = -np.inf
        number = min(num_markers, int(read.sum()))
        return cls(
            markers=np.argsort(-ahead, axis=1, kind="stable")[:, :number],
            usual=np.asarray(values.mean(axis=0), dtype=np.float64).ravel(),
            center=embedding.mean(axis=0, dtype=np.float64),
            expression=expression,
        )

    def of(
        self, embedding: Float[np.ndarray, "B P"], values: MarkerValues, genes: Int[np.ndarray, " m"]
    ) -> Float[np.ndarray, "B E"]:
        """Return what `of_labels` does, of one label with these marker genes."""
        return self.of_labels(embedding, values, [genes])[:, 0]

    def of_labels(
        self,
        embedding: Float[np.ndarray, "B P"],
        values: MarkerValues,
        markers: Sequence[Int[np.ndarray, " _"]] | None = None,
    ) -> Float[np.ndarray, "B L E"]:
        """Return by how much the mean of each label's genes exceeds what is usual: measured and predicted.

        Of genes that were not measured (`MarkerValues`) nothing is said: 0 where none was. ``markers`` are those of
        each label (default: of the reference's).
        """
        lists = list(self.markers) if markers is None else markers
        measured = np.stack([self._measured(values, genes) for genes in lists], axis=1)
        if self.expression is None:
            return measured[:, :, None]
        asked = np.unique(np.concatenate(lists))
        places = [np.searchsorted(asked, genes) for genes in lists]

        def predicted(vectors: Float[np.ndarray, "b P"]) -> Float[np.ndarray, "b L"]:
            assert self.expression is not None
            of_genes = self.expression.predict(vectors, asked)
            return np.stack([of_genes[:, place].mean(axis=1) for place in places], axis=1)

        starts = range(0, len(embedding), AT_ONCE)
        found = np.concatenate([predicted(embedding[start : start + AT_ONCE]) for start in starts])
        return np.stack([measured, found - predicted(self.center[None])], axis=2)

    def _measured(self, values: MarkerValues, genes: Int[np.ndarray, " m"]) -> Float[np.ndarray, " B"]:
        place = np.searchsorted(values.genes, genes)
        known = values.measured[place]
        if not known.any():
            return np.zeros(values.values.shape[0])
        return np.asarray(values.values[:, place[known]].mean(axis=1)).ravel() - self.usual[genes[known]].mean()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PairScorer:
    """Weights of the evidence of a pair, the constant last: of a label with cells, and of one with markers alone."""

    of_cells: Float[np.ndarray, " F1"]
    of_markers: Float[np.ndarray, " E1"]

    def score(self, evidence: Float[np.ndarray, "B L F"]) -> Float[np.ndarray, "B L"]:
        """Return log odds that each cell is of each label of the reference."""
        return evidence @ self.of_cells[:-1] + self.of_cells[-1]

    def score_described(self, evidence: Float[np.ndarray, "B E"]) -> Float[np.ndarray, " B"]:
        """Return log odds that each cell is of a label that markers alone describe."""
        return evidence @ self.of_markers[:-1] + self.of_markers[-1]


def evidence_of_pairs(
    log_probabilities: Float[np.ndarray, "B L"],
    log_distances: Float[np.ndarray, "B L"],
    of_markers: Float[np.ndarray, "B L E"],
) -> Float[np.ndarray, "B L F"]:
    """Join what was learned of each label's cells, and how far the cell lies from them, with its markers."""
    learned = np.stack([np.maximum(log_probabilities, LEAST_LOG_PROBABILITY), log_distances], axis=2)
    return np.concatenate([learned, of_markers], axis=2)
