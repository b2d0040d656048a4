"""What is learned of labelled cells, from all of a reference or from a fold of it.

Letters: A cells to learn from; B cells asked for; G genes of the model; P width of the embedding; C principal axes of
expression; Q = P + C; L labels.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix
from scipy.special import logsumexp

from xtrimogene.evaluation.classifiers import LinearClassifier, NeighborClassifier, variance_of
from xtrimogene.tasks.annotation.alignment import (
    MOST_DISAGREEMENT,
    NUM_ROUNDS,
    common_shift,
    disagreement,
    label_centers,
)
from xtrimogene.tasks.annotation.novelty import LabelDistance, NeighborDistance
from xtrimogene.tasks.expression_space import ExpressionSpace

AnnotationMethod = Literal["ensemble", "linear", "knn"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Views:
    """Cells in both spaces: their embedding, and where `ExpressionSpace` places them."""

    embedding: Float[np.ndarray, "B P"]
    components: Float[np.ndarray, "B C"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Learned:
    """``classifier`` reads the embedding, ``by_expression`` the principal axes; ``both`` says whether both answer.

    ``centers`` are the labels' mean cells, in both spaces.
    """

    classifier: LinearClassifier | NeighborClassifier
    by_expression: LinearClassifier
    both: bool
    space: ExpressionSpace
    neighbors: NeighborDistance
    distance: LabelDistance
    centers: Float[np.ndarray, "L Q"]

    @classmethod
    def fit(
        cls,
        method: AnnotationMethod,
        embedding: Float[np.ndarray, "A P"],
        counts: csr_matrix,
        labels: Shaped[np.ndarray, " A"],
        *,
        read: Bool[np.ndarray, " G"],
        names: Shaped[np.ndarray, " L"] | None = None,
        seed: int = 0,
    ) -> "Learned":
        """Fit; of ``counts`` (A x G) the genes that are ``read``.

        ``names`` are all labels that there may be (default: those of these cells), which matters to the votes.
        """
        space = ExpressionSpace.fit(counts, read, seed=seed)
        cells = Views(embedding=embedding, components=space.place(counts, read))
        classifier: LinearClassifier | NeighborClassifier
        match method:
            case "linear" | "ensemble":
                classifier = LinearClassifier.fit(embedding, labels, variance=variance_of(embedding, "together"))
            case "knn":
                classifier = NeighborClassifier.fit(embedding, labels, names=names)
            case _:
                assert_never(method)
        return cls(
            classifier=classifier,
            by_expression=LinearClassifier.fit(
                cells.components, labels, variance=variance_of(cells.components, "each")
            ),
            both=method == "ensemble",
            space=space,
            neighbors=NeighborDistance.fit(embedding),
            distance=LabelDistance.fit(cells.components, labels),
            centers=label_centers(np.hstack([embedding, cells.components]), labels, classifier.labels),
        )

    @property
    def labels(self) -> Shaped[np.ndarray, " L"]:
        return self.classifier.labels

    def view(self, embedding: Float[np.ndarray, "B P"], counts: csr_matrix, measured: Bool[np.ndarray, " G"]) -> Views:
        return Views(embedding=embedding, components=self.space.place(counts, measured))

    def scores(self, cells: Views) -> Float[np.ndarray, "B L"]:
        """Return log probabilities but for a constant of each cell; the ensemble's are of the mean probability."""
        scores = self.classifier.scores(cells.embedding)
        if not self.both:
            return scores
        pair = np.stack([scores, self.by_expression.scores(cells.components)])  # (2, B, L)
        return np.asarray(logsumexp(pair - logsumexp(pair, axis=2, keepdims=True), axis=0))

    def distances(self, cells: Views) -> Float[np.ndarray, "B 2"]:
        """Return log distances from the nearest cells in the embedding, and from the nearest label in expression."""
        return np.log(np.column_stack([self.neighbors.of(cells.embedding), self.distance.of(cells.components)]) + 1e-9)

    def near(self, cells: Views) -> Bool[np.ndarray, " B"]:
        """Say which cells lie as near to a label as half of the reference's own."""
        return np.asarray(self.distance.of(cells.components) <= self.distance.usual)

    def align(self, cells: Views) -> tuple[Views, bool]:
        """Move all cells by one vector in each space, so that most labels lie where the reference's do.

        Only cells that lie as near to a label as the reference's own have a say, at first where they are and then where
        each move puts them. Nothing is moved, and False returned, where labels are not displaced alike
        (`disagreement`), as where a type that the reference lacks bears several names: it is not to be moved onto one.
        """
        moved, width = cells, cells.embedding.shape[1]
        for number in range(NUM_ROUNDS):
            near = self.near(moved)
            best = self.scores(moved).argmax(axis=1)[near]
            vectors, components = cells.embedding[near], cells.components[near]
            if number == 0 and disagreement(components, best, self.centers[:, width:]) > MOST_DISAGREEMENT:
                return cells, False
            moved = Views(
                embedding=cells.embedding - common_shift(vectors, best, self.centers[:, :width]),
                components=cells.components - common_shift(components, best, self.centers[:, width:]),
            )
        return moved, True


def draw_cells(
    labels: Shaped[np.ndarray, " A"], *, most: int = 20_000, least_of_label: int = 100, seed: int = 0
) -> tuple[Int[np.ndarray, " D"], Bool[np.ndarray, " D"]]:
    """Draw cells to learn from, ascending: all, or about ``most``, and which of them are drawn by their label's share.

    Rare labels are drawn up to ``least_of_label`` times, where that is at most ``most`` in all; what goes beyond their
    share must not count where the mixture of labels matters.
    """
    if len(labels) <= most:
        return np.arange(len(labels)), np.ones(len(labels), dtype=bool)
    random = np.random.default_rng(seed)
    names, label = np.unique(labels, return_inverse=True)
    least = min(least_of_label, most // len(names))
    rows, counted = [], []
    for one in range(len(names)):
        own = random.permutation(np.flatnonzero(label == one))
        share = round(most * len(own) / len(labels))
        drawn = own[: max(share, least)]
        rows.append(drawn)
        counted.append(np.arange(len(drawn)) < share)
    order = np.argsort(np.concatenate(rows), kind="stable")
    return np.concatenate(rows)[order], np.concatenate(counted)[order]
