"""A query, embedded as its reference was, and what is said of its cells; what makes that worth less is warned of."""

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from jaxtyping import Bool, Int
from scipy.sparse import csr_matrix

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import ConfigError
from xtrimogene.inference import Inference
from xtrimogene.tasks.annotation.annotator import Annotation, check_candidates
from xtrimogene.tasks.annotation.annotator_folder import SavedAnnotator
from xtrimogene.tasks.annotation.learned import Views
from xtrimogene.tasks.annotation.tuned import with_tuned
from xtrimogene.tl.embedding import CellVectors, read_vectors

LEAST_STRANGE = 10  # cells that may well be so among few


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answers:
    """Cells asked for, what is said of them, and the record of how."""

    asked: CellVectors
    annotation: Annotation
    record: dict[str, Any]


def answer(
    query: AnnData | str | os.PathLike[str],
    saved: SavedAnnotator,
    inference: Inference,
    model: PretrainedModel,
    reading: dict[str, Any],
    *,
    error_rate: float,
    novelty_rate: float,
    candidates: Sequence[str] | None = None,
    described: Mapping[str, Int[np.ndarray, " m"]] | None = None,
) -> Answers:
    """Embed a query as the reference was, and say what its cells are; warn of what makes the answers worth less.

    Genes that were not read of the reference are not read here. ``candidates`` and ``described``: as in
    `Annotator.annotate`.
    """
    learned = saved.annotator.learned
    check_candidates(learned.labels, candidates, described or {}, saved.annotator.method)
    _warn_of_few(saved, error_rate, novelty_rate)
    read = saved.card["model"]["options"]
    if saved.tuned is not None:
        inference = with_tuned(inference, model, saved.tuned)
    seen: list[Views] = []

    def see(block: csr_matrix, measured: Bool[np.ndarray, " G"]) -> None:
        not_yet = np.empty((block.shape[0], 0))
        seen.append(learned.view(not_yet, block, measured, described=described))

    asked = read_vectors(
        query,
        inference,
        model,
        pool=read["pool"],
        read_depth=read["read_depth"],
        panel=saved.annotator.read,
        each=see,
        **reading,
    )
    _warn_of_panel(learned.space.share_of(asked.measured))
    if learned.evidence is not None:
        _warn_of_markers(described or {}, asked.measured, latent=learned.evidence.expression is not None)
    cells = Views.join(seen, asked.embedding)
    annotation = saved.annotator.annotate(
        cells, error_rate=error_rate, novelty_rate=novelty_rate, candidates=candidates, described=described
    )
    _warn_of_strange(annotation, novelty_rate)
    _warn_of_elsewhere(annotation)
    made = {
        "method": saved.annotator.method,
        "temperature": saved.annotator.temperature,
        "held_out": dict(saved.annotator.held_out),
        "error_rate": error_rate,
        "novelty_rate": novelty_rate,
        "aligned": annotation.aligned,
        "candidates": list(annotation.labels),
        "best_label_no_candidate": int(annotation.elsewhere.sum()),
    }
    record = asked.record | made | {"annotator": dict(saved.card)}
    return Answers(asked=asked, annotation=annotation, record=record)


def _warn_of_few(saved: SavedAnnotator, error_rate: float, novelty_rate: float) -> None:
    number = len(saved.annotator.of_right_labels)
    rates = {"error_rate": (error_rate, "excludes no label"), "novelty_rate": (novelty_rate, "calls no cell unknown")}
    for name, (rate, then) in rates.items():
        if rate < 1 / (number + 1):
            warnings.warn(
                f"{number:,} cells of the reference could be held out, so {name}={rate:g} {then}; label more cells, "
                f"or ask for {math.ceil(1000 / (number + 1)) / 1000:g}.",
                UserWarning,
                stacklevel=4,
            )


def _warn_of_strange(annotation: Annotation, novelty_rate: float) -> None:
    number, known = int(annotation.novel.sum()), int((annotation.best >= 0).sum())
    if number > max(3 * novelty_rate * known, LEAST_STRANGE):
        warnings.warn(
            f"{number / known:.0%} of the cells are unknown, where {novelty_rate:.0%} were to be expected: types that "
            "the reference lacks, or cells made or measured in another way, whose confidence may not hold.",
            UserWarning,
            stacklevel=4,
        )


def _warn_of_panel(share: float) -> None:
    if share < 0.9:
        warnings.warn(
            f"the genes measured here hold {share:.0%} of the counts that the annotator learned from, and confidence, "
            "possible labels and unknown were checked with all; give reference= to have it read in these genes.",
            UserWarning,
            stacklevel=4,
        )


def _warn_of_markers(
    described: Mapping[str, Int[np.ndarray, " m"]], measured: Bool[np.ndarray, " G"], *, latent: bool
) -> None:
    for name, genes in described.items():
        number = int(measured[genes].sum())
        if not number and not latent:
            raise ConfigError(
                f"none of the {len(genes)} markers of {name!r} was measured in the query and the reference, and the "
                "model has no latent vector to tell of them; name others."
            )
        if number < len(genes):
            left = "the others, and the model's latent vector, speak for it"
            alone = "the model's latent vector alone speaks for it"
            warnings.warn(
                f"{len(genes) - number} of {len(genes)} markers of {name!r} were not measured in both, query and "
                f"reference; {(left if number else alone) if latent else 'the others speak for it'}.",
                UserWarning,
                stacklevel=4,
            )


def _warn_of_elsewhere(annotation: Annotation) -> None:
    number, known = int(annotation.elsewhere.sum()), int((annotation.best >= 0).sum())
    if number > max(0.1 * known, LEAST_STRANGE):
        warnings.warn(
            f"the best label of {number / known:.0%} of the cells is no candidate; such a cell gets one, or is "
            "unknown, and its confidence does not hold. Look at them without candidates=.",
            UserWarning,
            stacklevel=4,
        )
