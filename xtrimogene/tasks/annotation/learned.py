"""What is learned of labelled cells, from all of a reference or from a fold of it.

Letters: A cells to learn from; D of them, drawn, whose counts are read too; B cells asked for; G genes of the model;
P width of the embedding; C principal axes; L labels.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix
from scipy.special import logsumexp

from xtrimogene.evaluation.classifiers import LinearClassifier, NeighborClassifier, variance_of
from xtrimogene.tasks.annotation.alignment import NUM_ROUNDS, common_shift, label_centers
from xtrimogene.tasks.annotation.expression import ExpressionSpace
from xtrimogene.tasks.annotation.novelty import LabelDistance

AnnotationMethod = Literal["ensemble", "linear", "knn"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Learned:
    """``classifier`` reads the embedding, ``by_expression`` (of the ensemble) and ``distance`` the principal axes.

    ``centers`` are the labels' mean cells, in the embedding and along the axes: Q = P + C.
    """

    classifier: LinearClassifier | NeighborClassifier
    by_expression: LinearClassifier | None
    space: ExpressionSpace
    distance: LabelDistance
    centers: Float[np.ndarray, "L Q"]

    @classmethod
    def fit(
        cls,
        method: AnnotationMethod,
        embedding: Float[np.ndarray, "A P"],
        labels: Shaped[np.ndarray, " A"],
        *,
        drawn: Int[np.ndarray, " D"],
        counts: csr_matrix,
        read: Bool[np.ndarray, " G"],
        names: Shaped[np.ndarray, " L"] | None = None,
        seed: int = 0,
    ) -> "Learned":
        """Fit; ``counts`` (D x G) are those of the ``drawn`` cells, in the genes that are ``read``.

        ``names`` are all labels that there may be (default: those of these cells), which matters to the votes.
        """
        space = ExpressionSpace.fit(counts, read, seed=seed)
        components, of_drawn = space.place(counts, read), labels[drawn]
        classifier: LinearClassifier | NeighborClassifier
        by_expression = None
        match method:
            case "linear" | "ensemble":
                classifier = LinearClassifier.fit(embedding, labels, variance=variance_of(embedding, "together"))
                if method == "ensemble":
                    variance = variance_of(components, "each")
                    by_expression = LinearClassifier.fit(components, of_drawn, variance=variance)
            case "knn":
                classifier = NeighborClassifier.fit(embedding, labels, names=names)
            case _:
                assert_never(method)
        return cls(
            classifier=classifier,
            by_expression=by_expression,
            space=space,
            distance=LabelDistance.fit(components, of_drawn),
            centers=label_centers(np.hstack([embedding[drawn], components]), of_drawn, classifier.labels),
        )

    @property
    def labels(self) -> Shaped[np.ndarray, " L"]:
        return self.classifier.labels

    def scores(
        self, embedding: Float[np.ndarray, "B P"], components: Float[np.ndarray, "B C"]
    ) -> Float[np.ndarray, "B L"]:
        """Return log probabilities but for a constant of each cell; the ensemble's are of the mean probability."""
        scores = self.classifier.scores(embedding)
        if self.by_expression is None:
            return scores
        both = np.stack([scores, self.by_expression.scores(components)])  # (2, B, L)
        return logsumexp(both - logsumexp(both, axis=2, keepdims=True), axis=0)

    def align(
        self, embedding: Float[np.ndarray, "B P"], components: Float[np.ndarray, "B C"]
    ) -> tuple[Float[np.ndarray, "B P"], Float[np.ndarray, "B C"]]:
        """Move all cells by one vector in each space, so that most labels lie where the reference's do.

        The labels are the best ones, found anew after each of three moves.
        """
        width, cells = embedding.shape[1], np.hstack([embedding, components])
        moved = cells
        for _ in range(NUM_ROUNDS):
            best = self.scores(moved[:, :width], moved[:, width:]).argmax(axis=1)
            moved = cells - common_shift(cells, best, self.centers)
        return moved[:, :width], moved[:, width:]


def draw_cells(
    labels: Shaped[np.ndarray, " A"], *, most: int = 10_000, least_of_label: int = 100, seed: int = 0
) -> Int[np.ndarray, " D"]:
    """Draw about ``most`` cells, ascending: of each label its share, but ``least_of_label`` where there are so many."""
    if len(labels) <= most:
        return np.arange(len(labels))
    random = np.random.default_rng(seed)
    drawn = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        number = max(round(most * len(rows) / len(labels)), min(least_of_label, len(rows)))
        drawn.append(random.permutation(rows)[:number])
    return np.sort(np.concatenate(drawn))
