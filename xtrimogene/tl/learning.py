"""A labelled reference, embedded and learned: what `annotate`, `fit_annotator` and `map_to_reference` begin with."""

import os
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Float
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import FineTuneConfig
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import ConfigError, GeneMatchError
from xtrimogene.inference import Inference
from xtrimogene.model.tail import require_layers
from xtrimogene.tasks.annotation.annotator import Annotator
from xtrimogene.tasks.annotation.annotator_folder import SavedAnnotator
from xtrimogene.tasks.annotation.latent_expression import LatentExpression
from xtrimogene.tasks.annotation.learned import AnnotationMethod, draw_cells
from xtrimogene.tl.embedding import read_vectors
from xtrimogene.tl.reference_labels import ReferenceLabels


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Learning:
    """How to learn; ``panel`` are the genes that a query measured, ``tuning`` is for "finetune"."""

    method: AnnotationMethod
    align: bool
    baselines: bool
    panel: Bool[np.ndarray, " G"] | None = None
    tuning: FineTuneConfig = FineTuneConfig()


def read_tuning(method: str, batch_key: str | None, tuning: FineTuneConfig | None) -> FineTuneConfig:
    """Return how to tune.

    Raises
    ------
    ConfigError
        An option of tuning for a method that tunes nothing.
    """
    for name, given in (("batch_key", batch_key), ("tuning", tuning)):
        if given is not None and method != "finetune":
            raise ConfigError(f"{name}= is an option of method='finetune', and the method is {method!r}; leave it out.")
    return tuning or FineTuneConfig()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Taught:
    """What was learned, and of the reference the cells it was learned from; ``measured`` are the genes read."""

    saved: SavedAnnotator
    obs: pd.DataFrame
    embedding: Float[np.ndarray, "A P"]
    counts: csr_matrix
    measured: Bool[np.ndarray, " G"]


def learn(
    reference: AnnData | str | os.PathLike[str],
    known: ReferenceLabels,
    inference: Inference,
    model: PretrainedModel,
    options: Learning,
    reading: dict[str, Any],
) -> Taught:
    """Embed and learn the cells drawn, in the genes that the reference, and where given the query, measured."""
    if options.method == "finetune":
        require_layers(model.network, options.tuning.num_layers)
    labelled = np.flatnonzero(known.used)
    drawn, counted = draw_cells(known.labels[labelled])
    rows = labelled[drawn]
    parts: list[csr_matrix] = []
    found = read_vectors(
        reference,
        inference,
        model,
        only=np.isin(np.arange(len(known.used)), rows),
        panel=options.panel,
        each=lambda block, _: parts.append(block),
        **reading,
    )
    read = np.isfinite(found.embedding[rows]).all(axis=1)
    taught = rows[read]
    counts = vstack(parts, format="csr")[np.flatnonzero(read)]
    embedding, labels = found.embedding[taught], known.labels[taught]
    groups = None if known.groups is None else known.groups[taught]
    tuned = None
    if options.method == "finetune":
        from xtrimogene.tasks.annotation.tuning import tune  # Lightning takes seconds to import

        tuned = tune(
            model,
            inference,
            counts,
            embedding,
            labels,
            config=options.tuning,
            groups=groups,
            batches=None if known.batches is None else known.batches[taught],
            progress=bool(reading["progress"]),
        )
        embedding = tuned.embedding
    annotator = Annotator.fit(
        embedding,
        counts,
        labels,
        read=found.measured,
        counted=counted[read],
        method=options.method,
        groups=groups,
        align=options.align,
        baselines=options.baselines,
        expression=LatentExpression.of(model.network) if options.method == "match" else None,
        tuned=tuned,
    )
    if found.num_unread:
        warnings.warn(
            f"{found.num_unread:,} cells of the reference have no counts in the model's genes and teach nothing.",
            UserWarning,
            stacklevel=3,
        )
    names, numbers = np.unique(labels, return_counts=True)
    card = {
        "label_key": known.label_key,
        "held_out_by": known.group_key or "cell",
        "labels": names.tolist(),  # and their cells as two lists: a key of .h5ad may hold no "/", a label may
        "cells": numbers.tolist(),
        "model": found.record,
    }
    if known.ids is not None:
        card["ontology"] = {"labels": list(known.ids), "ids": list(known.ids.values())}
    if tuned is not None:
        card["tuning"] = asdict(options.tuning) | {"epochs": tuned.num_epochs, "held_out_losses": list(tuned.losses)}
        if known.batch_key is not None:
            card["tuning"]["batch_key"] = known.batch_key
        if not tuned.num_epochs:
            warnings.warn(
                "fine-tuning made the answers to held-out cells no better, so the model stays as it is.",
                UserWarning,
                stacklevel=3,
            )
    return Taught(
        saved=SavedAnnotator(annotator=annotator, card=card, tuned=None if tuned is None else tuned.weights),
        obs=found.obs.iloc[taught],
        embedding=embedding,
        counts=counts,
        measured=found.measured,
    )


def check_cells(
    adata: AnnData | str | os.PathLike[str], model: PretrainedModel, min_genes: int
) -> tuple[Bool[np.ndarray, " G"], Float[np.ndarray, " G"]]:
    """Return which genes are measured, and their counts in the rows looked at; warnings come with embedding."""
    with open_cells(adata) as cells, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = MatchedCounts.find(cells, model.genes)
        found.require(min_genes=min_genes, all_rows=isinstance(adata, AnnData))
    target, matched = found.match.target, found.match.target >= 0
    counts = np.bincount(target[matched], found.counts_per_column[matched], minlength=len(found.match.measured))
    return found.match.measured, counts


def shared_panel(
    query: AnnData | str | os.PathLike[str],
    reference: AnnData | str | os.PathLike[str],
    model: PretrainedModel,
    min_genes: int,
) -> Bool[np.ndarray, " G"]:
    """Return the genes that the query measured; refuse a pair before the reference is embedded, maybe for an hour."""
    panel, _ = check_cells(query, model, min_genes)
    _, counts = check_cells(reference, model, min_genes)
    held = counts[panel].sum() / max(counts.sum(), 1)
    if held < 0.5:
        raise GeneMatchError(
            f"the genes that the query measured hold {held:.0%} of the reference's counts; at least half are needed."
        )
    return panel
