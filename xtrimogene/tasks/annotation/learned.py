"""What is learned of labelled cells, from all of a reference or from a fold of it.

Letters: A cells to learn from; B cells asked for; G genes of the model; P width of the embedding; C principal axes of
expression; Q = P + C; L labels; F numbers say what speaks for a cell and a label; m marker genes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csr_matrix
from scipy.special import log_softmax, logsumexp

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.classifiers import LinearClassifier, NeighborClassifier, variance_of
from xtrimogene.evaluation.splits import folds_by_cell
from xtrimogene.tasks.annotation.alignment import (
    MOST_DISAGREEMENT,
    NUM_ROUNDS,
    common_shift,
    disagreement,
    label_centers,
)
from xtrimogene.tasks.annotation.latent_expression import LatentExpression
from xtrimogene.tasks.annotation.matching import (
    NUM_MARKERS,
    MarkerEvidence,
    MarkerValues,
    Pairs,
    PairScorer,
    evidence_of_pairs,
)
from xtrimogene.tasks.annotation.novelty import LabelDistance, NeighborDistance
from xtrimogene.tasks.expression_space import ExpressionSpace

AnnotationMethod = Literal["ensemble", "linear", "knn", "finetune", "match"]
BOTH: tuple[AnnotationMethod, ...] = ("ensemble", "finetune", "match")  # that read the embedding and expression
LEAST_DISTANCE = 1e-3
FROM_BEST, NAMED = 20, 4  # markers that a left-out label is described by, drawn from so many
LEFT_OUT, LEAST_LEFT_OUT, NUM_FOLDS, MOST_CELLS = 8, 3, 3, 1_000  # to learn pairs: labels, cells of each, all cells


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Views:
    """Cells in both spaces: their embedding, and where `ExpressionSpace` places them; for "match", marker genes too."""

    embedding: Float[np.ndarray, "B P"]
    components: Float[np.ndarray, "B C"]
    markers: MarkerValues | None = None

    def rows(self, rows: Shaped[np.ndarray, " _"]) -> "Views":
        markers = None if self.markers is None else self.markers.rows(rows)
        return Views(embedding=self.embedding[rows], components=self.components[rows], markers=markers)

    @staticmethod
    def join(parts: "Sequence[Views]", embedding: Float[np.ndarray, "N P"]) -> "Views":
        """Put cells one after the other, and give them their embedding."""
        markers = [part.markers for part in parts if part.markers is not None]
        return Views(
            embedding=embedding,
            components=np.concatenate([part.components for part in parts]),
            markers=MarkerValues.join(markers) if markers else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Learned:
    """``classifier`` reads the embedding, ``by_expression`` the principal axes; ``both`` says whether both answer.

    ``centers`` are the labels' mean cells, in both spaces. With a ``scorer`` ("match") the answer of both is a part of
    the evidence of each pair of a cell and a label, and ``evidence``, of marker genes, the other.
    """

    classifier: LinearClassifier | NeighborClassifier
    by_expression: LinearClassifier
    both: bool
    space: ExpressionSpace
    neighbors: NeighborDistance
    distance: LabelDistance
    centers: Float[np.ndarray, "L Q"]
    evidence: MarkerEvidence | None = None
    scorer: PairScorer | None = None

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
        expression: LatentExpression | None = None,
        seed: int = 0,
    ) -> "Learned":
        """Fit; of ``counts`` (A x G) the genes that are ``read``.

        ``names`` are all labels that there may be (default: those of these cells), which matters to the votes.
        ``expression`` is what the embedding, where it is the model's latent vector, says of genes, for "match". For
        "finetune" the embedding is that of a tuned network, and all else as for "ensemble".

        Raises
        ------
        ConfigError
            "match" cannot learn what speaks for a pair: there are no two labels of three cells each.
        """
        space = ExpressionSpace.fit(counts, read, seed=seed)
        cells = Views(embedding=embedding, components=space.place(counts, read))
        classifier: LinearClassifier | NeighborClassifier
        match method:
            case "linear" | "ensemble" | "finetune" | "match":
                classifier = LinearClassifier.fit(embedding, labels, variance=variance_of(embedding, "together"))
            case "knn":
                classifier = NeighborClassifier.fit(embedding, labels, names=names)
            case _:
                assert_never(method)
        scorer = evidence = None
        if method == "match":
            scorer = fit_scorer(embedding, counts, labels, read=read, expression=expression, seed=seed)
            values = space.normalize(counts, read)
            evidence = MarkerEvidence.fit(values, embedding, labels, read=read, expression=expression)
        return cls(
            classifier=classifier,
            by_expression=LinearClassifier.fit(
                cells.components, labels, variance=variance_of(cells.components, "each")
            ),
            both=method in BOTH,
            space=space,
            neighbors=NeighborDistance.fit(embedding),
            distance=LabelDistance.fit(cells.components, labels),
            centers=label_centers(np.hstack([embedding, cells.components]), labels, classifier.labels),
            evidence=evidence,
            scorer=scorer,
        )

    @property
    def labels(self) -> Shaped[np.ndarray, " L"]:
        return self.classifier.labels

    def view(
        self,
        embedding: Float[np.ndarray, "B P"],
        counts: csr_matrix,
        measured: Bool[np.ndarray, " G"],
        *,
        described: Mapping[str, Int[np.ndarray, " m"]] | None = None,
    ) -> Views:
        """Place cells (B x G) in both spaces; ``described`` are labels by marker genes, for `described_scores`.

        ``measured`` are genes that were read both here and of the cells learned from.
        """
        return Views(
            embedding=embedding,
            components=self.space.place(counts, measured),
            markers=self.marker_values(counts, measured, described or {}),
        )

    def marker_values(
        self,
        counts: csr_matrix,
        measured: Bool[np.ndarray, " G"],
        described: Mapping[str, Int[np.ndarray, " m"]],
    ) -> MarkerValues | None:
        """Return what cells hold of all marker genes; None but for "match"."""
        if self.evidence is None:
            return None
        genes = np.unique(np.concatenate([self.evidence.markers.ravel(), *described.values()]))
        values = self.space.normalize(counts, measured)[:, genes]
        return MarkerValues(values=values, genes=genes, measured=measured[genes])

    def scores(self, cells: Views) -> Float[np.ndarray, "B L"]:
        """Return what speaks for each label.

        But for a constant of each cell these are log probabilities, of the ensemble those of its mean probability; for
        "match" log odds that the cell and the label belong together.
        """
        if self.scorer is None:
            return self.learned_scores(cells)
        return self.scorer.score(self.pair_evidence(cells))

    def described_scores(self, cells: Views, genes: Int[np.ndarray, " m"]) -> Float[np.ndarray, " B"]:
        """Return log odds that each cell belongs to a label that these marker genes describe; for "match"."""
        assert self.scorer is not None
        return self.scorer.score_described(self.marker_evidence(cells, genes))

    def marker_evidence(self, cells: Views, genes: Int[np.ndarray, " m"]) -> Float[np.ndarray, "B E"]:
        assert self.evidence is not None and cells.markers is not None
        return self.evidence.of(cells.embedding, cells.markers, genes)

    def pair_evidence(self, cells: Views) -> Float[np.ndarray, "B L F"]:
        assert self.evidence is not None and cells.markers is not None
        return evidence_of_pairs(
            log_softmax(self.learned_scores(cells), axis=1),
            np.log(self.distance.of_labels(cells.components) + LEAST_DISTANCE),
            self.evidence.of_labels(cells.embedding, cells.markers),
        )

    def learned_scores(self, cells: Views) -> Float[np.ndarray, "B L"]:
        """Return what the classifiers say."""
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
            best = self.learned_scores(moved).argmax(axis=1)[near]
            vectors, components = cells.embedding[near], cells.components[near]
            if number == 0 and disagreement(components, best, self.centers[:, width:]) > MOST_DISAGREEMENT:
                return cells, False
            moved = replace(
                cells,
                embedding=_moved(cells.embedding, common_shift(vectors, best, self.centers[:, :width])),
                components=_moved(cells.components, common_shift(components, best, self.centers[:, width:])),
            )
        return moved, True


def _moved(cells: Float[np.ndarray, "B P"], shift: Float[np.ndarray, " P"]) -> Float[np.ndarray, "B P"]:
    """Keep the precision of the cells: where neighbours are of another, scikit-learn makes a table of all pairs."""
    return cells - shift.astype(cells.dtype)


def fit_scorer(
    embedding: Float[np.ndarray, "A P"],
    counts: csr_matrix,
    labels: Shaped[np.ndarray, " A"],
    *,
    read: Bool[np.ndarray, " G"],
    expression: LatentExpression | None,
    seed: int = 0,
) -> PairScorer:
    """Learn from held-out cells which pairs belong together, with one label after the other left out.

    So the scorer has seen what the others say of a cell whose label they lack, and what markers say of it: some of the
    best of the label left out, as a person would name them. It has a few weights, so 1,000 cells and 8 labels do.

    Raises
    ------
    ConfigError
        There are no two labels of three cells each.
    """
    random = np.random.default_rng(seed)
    drawn, _ = draw_cells(labels, most=MOST_CELLS, seed=seed)
    embedding, counts, labels = embedding[drawn], counts[drawn], labels[drawn]
    names, numbers = np.unique(labels, return_counts=True)
    left_out = random.permutation(names[numbers >= LEAST_LEFT_OUT])[:LEFT_OUT].tolist()
    if len(left_out) < 2:
        raise ConfigError(
            f"method='match' learns from two labels or more with {LEAST_LEFT_OUT} cells each, also where some are held "
            f"out, and here are {len(left_out)}; label more cells, or use method='ensemble'."
        )
    of_cells: list[Pairs] = []
    of_markers: list[Pairs] = []
    folds = folds_by_cell(labels, num_folds=NUM_FOLDS, seed=seed)
    whole = [None] * NUM_FOLDS if len(names) == 2 else []  # of one label alone nothing is learned
    for place, label in enumerate([*whole, *left_out]):
        train, test = folds[place % NUM_FOLDS].train, folds[place % NUM_FOLDS].test
        kept = train[labels[train] != label] if label is not None else train
        learned = Learned.fit("ensemble", embedding[kept], counts[kept], labels[kept], read=read, seed=seed)
        values = learned.space.normalize(counts, read)

        def markers(rows: Int[np.ndarray, " r"], number: int, values: csr_matrix = values) -> MarkerEvidence:
            return MarkerEvidence.fit(
                values[rows], embedding[rows], labels[rows], read=read, expression=expression, num_markers=number
            )

        learned = replace(learned, evidence=markers(kept, NUM_MARKERS))
        described = {}
        if label is not None:
            (best,) = markers(train, FROM_BEST).markers[np.unique(labels[train]) == label]
            described = {str(draw): random.choice(best, min(NAMED, len(best)), replace=False) for draw in range(3)}
        cells = learned.view(embedding[test], counts[test], read, described=described)
        _, present, number = np.unique(labels[test], return_inverse=True, return_counts=True)
        weight = 1 / number[present]  # each label counts alike
        if len(learned.labels) > 1:
            pairs = learned.pair_evidence(cells)  # (b, L, F)
            right, each = labels[test][:, None] == learned.labels, np.repeat(weight, len(learned.labels))
            of_cells.append(Pairs(evidence=pairs.reshape(-1, pairs.shape[2]), right=right.ravel(), weight=each))
        for genes in described.values():
            evidence = learned.marker_evidence(cells, genes)
            of_markers.append(Pairs(evidence=evidence, right=labels[test] == label, weight=weight))
    return PairScorer(of_cells=Pairs.join(of_cells).fit(), of_markers=Pairs.join(of_markers).fit())


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
