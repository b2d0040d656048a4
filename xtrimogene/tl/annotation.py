"""Cell types of a query, learned from a labelled reference."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Bool, Float
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import PretrainedModel, load, require_new_folder
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.cell_ontology import CellOntology
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import ConfigError, GeneMatchError
from xtrimogene.inference import Inference
from xtrimogene.tasks.annotation import voting
from xtrimogene.tasks.annotation.annotator import Annotation, Annotator, check_options
from xtrimogene.tasks.annotation.annotator_folder import (
    SavedAnnotator,
    load_annotator,
    save_annotator,
)
from xtrimogene.tasks.annotation.learned import AnnotationMethod, Views, draw_cells
from xtrimogene.tl.answer_columns import answer_columns, label_column, ontology_columns
from xtrimogene.tl.embedding import CellVectors, read_vectors, record_key, require_model, warn_of_unread
from xtrimogene.tl.reference_labels import ReferenceLabels, read_labels

LEAST_STRANGE = 10  # cells that may well be so among few


def annotate(
    query: AnnData | str | os.PathLike[str],
    *,
    reference: AnnData | str | os.PathLike[str] | None = None,
    annotator: str | os.PathLike[str] | None = None,
    label_key: str | None = None,
    group_key: str | None = None,
    ontology_key: str | None = None,
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    method: AnnotationMethod | None = None,
    baselines: bool | None = None,
    error_rate: float = 0.1,
    novelty_rate: float = 0.05,
    align: bool | None = None,
    vote: bool = False,
    key_added: str = "xtrimogene",
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> AnnData:
    """Write what each cell of the query is, and how sure that is, into ``query.obs``.

    Parameters
    ----------
    query
        Cells x genes, or the path of an .h5ad or .zarr; counts and genes are found as in `embed`.
    reference, label_key, group_key, ontology_key, method
        Labelled cells to learn from, as in `fit_annotator`; genes that the query did not measure are not read.
    baselines, align
        As in `fit_annotator`; by default both.
    annotator
        Instead of these, a folder that `fit_annotator` wrote.
    model
        As in `embed`; with ``annotator``, the model it was fitted with.
    error_rate
        The share of cells, of those like the reference's, whose right label may be missing from the possible ones.
    novelty_rate
        The share of them that may be called unknown, for lying far from the reference.
    vote
        Add what each cell and its five nearest of the query are together: all pairs are compared, minutes for 100,000.
    key_added
        How the new columns begin.
    device, token_budget, min_genes
        As in `embed`.

    Returns
    -------
    ``query`` itself; for a path, a new AnnData with obs and uns, and without X. In ``obs``: ``xtrimogene_label``, with
    "unknown" for a cell of no type of the reference; ``xtrimogene_confidence``, the probability of the best label;
    ``xtrimogene_possible``, the labels that it may have, such as "CD4 T | CD8 T"; ``xtrimogene_unknown``. With
    ``ontology_key``, ``xtrimogene_ontology_id`` and ``xtrimogene_ontology_name``: the type that the possible labels
    have in common, "T cell". With ``vote``, ``xtrimogene_voted``. A cell without counts in the model's genes has none
    of these, and is not unknown.
    ``uns["xtrimogene_annotation"]`` says how, and what the labels and probabilities are worth in cells of the
    reference that were held out.

    Raises
    ------
    FieldError
        No such column in ``reference.obs``, or it holds decimal numbers, or a label with " | " in it.
    ConfigError
        Neither a reference with a label_key nor an annotator, or both; fewer than two labels; a rate that is none; an
        option of `embed` that cannot be.
    CheckpointError
        No such annotator, or one fitted with another model; or as in `embed`.
    CountsError, GeneMatchError, FileFormatError
        As in `embed`.

    Warns
    -----
    UserWarning
        As in `embed`; so few cells could be held out that a rate excludes no label, or calls no cell unknown; or three
        times as many cells are unknown as the rate says.
    """
    check_options(method=method or "ensemble", error_rate=error_rate, novelty_rate=novelty_rate)
    record_key(key_added)
    reading: dict[str, Any] = {"min_genes": min_genes, "progress": progress}
    learning = (reference, label_key, group_key, ontology_key, method, baselines, align)
    if annotator is not None and all(one is None for one in learning):
        saved = load_annotator(annotator)
        loaded = load(model)
        require_model(saved.card["model"], loaded, f"{os.fspath(annotator)!r} was fitted on", "fit again")
        inference = Inference(loaded, device=device, token_budget=token_budget)
        ontology = CellOntology() if "ontology" in saved.card else None
    elif annotator is None and reference is not None and label_key is not None:
        labels = read_labels(reference, label_key, group_key, ontology_key)
        loaded = load(model)
        inference = Inference(loaded, device=device, token_budget=token_budget)
        ontology = None if ontology_key is None else CellOntology()
        options = Learning(
            method=method or "ensemble",
            align=True if align is None else align,
            baselines=True if baselines is None else baselines,
            panel=shared_panel(query, reference, loaded, min_genes),
        )
        saved = learn(reference, labels, inference, loaded, options, reading).saved
    else:
        raise ConfigError("annotate needs reference= with label_key=, or annotator= without any option of learning.")
    answers = answer(query, saved, inference, loaded, reading, error_rate=error_rate, novelty_rate=novelty_rate)
    asked, annotation = answers.asked, answers.annotation
    warn_of_unread(asked)
    written = query if isinstance(query, AnnData) else AnnData(obs=asked.obs)
    columns = answer_columns(annotation)
    if ontology is not None:
        columns |= ontology_columns(annotation, saved.card["ontology"], ontology)
    if vote:
        columns["voted"] = label_column(annotation, voting.vote(asked.embedding, annotation.probabilities))
    for name, column in columns.items():
        written.obs[f"{key_added}_{name}"] = pd.Series(column, index=asked.obs.index)
    written.uns[f"{key_added}_annotation"] = answers.record
    return written


def fit_annotator(
    reference: AnnData | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    label_key: str,
    group_key: str | None = None,
    ontology_key: str | None = None,
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    method: AnnotationMethod = "ensemble",
    baselines: bool = True,
    align: bool = True,
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> Path:
    """Learn labels once, and keep what was learned in a folder for `annotate`; the model's weights are not in it.

    Parameters
    ----------
    reference
        Labelled cells x genes, or the path of an .h5ad or .zarr; it is not changed.
    folder
        Must not exist yet, or be an empty folder.
    label_key, group_key, ontology_key
        Columns of ``reference.obs``: the cell types (cells without one are not used), the donor, study or batch, and
        the types' ids in the Cell Ontology (`xtrimogene.get.cell_ontology_ids` finds them by name). With groups,
        confidence is checked in groups that were not learned from; without, in other cells of the same.
    method
        "ensemble": the mean probability of two logistic regressions, on the embedding and on the reference's HVG + PCA.
        "linear": that on the embedding alone. "knn": the 15 nearest cells of the reference vote.
    align
        Take out what the cells of most labels are displaced by beside the reference's, as another protocol moves them.
        It needs ten cells each of three types that lie near the reference and are displaced alike, and is left out
        where there are not. Without it, no cell's answer depends on others.
    baselines
        Run HVG + PCA, logistic regression on all genes, and the most frequent label in the same folds: they may take as
        long as embedding 10,000 cells, and say whether the model is worth it here.
    model, device, token_budget, min_genes
        As in `embed`.

    Returns
    -------
    ``folder``: annotator.json, with what the labels are worth in held-out cells, and arrays.safetensors.

    Warns
    -----
    UserWarning
        Cells of the reference that have no counts in the model's genes teach nothing.

    Raises
    ------
    FieldError, ConfigError, CheckpointError, CountsError, GeneMatchError, FileFormatError
        As in `annotate`; the folder exists and holds something, or cannot be written.
    """
    check_options(method=method)
    require_new_folder(Path(folder))
    labels = read_labels(reference, label_key, group_key, ontology_key)
    loaded = load(model)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    reading = {"min_genes": min_genes, "progress": progress}
    options = Learning(method=method, align=align, baselines=baselines)
    return save_annotator(learn(reference, labels, inference, loaded, options, reading).saved, folder)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Learning:
    """How to learn; ``panel`` are the genes that a query measured."""

    method: AnnotationMethod
    align: bool
    baselines: bool
    panel: Bool[np.ndarray, " G"] | None = None


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
    counts = vstack(parts, format="csr")
    annotator = Annotator.fit(
        found.embedding[rows],
        counts,
        known.labels[rows],
        read=found.measured,
        counted=counted,
        method=options.method,
        groups=None if known.groups is None else known.groups[rows],
        align=options.align,
        baselines=options.baselines,
    )
    if found.num_unread:
        warnings.warn(
            f"{found.num_unread:,} cells of the reference have no counts in the model's genes and teach nothing.",
            UserWarning,
            stacklevel=3,
        )
    read = np.isfinite(found.embedding[rows]).all(axis=1)
    taught = rows[read]
    names, numbers = np.unique(known.labels[taught], return_counts=True)
    card = {
        "label_key": known.label_key,
        "held_out_by": known.group_key or "cell",
        "labels": names.tolist(),  # and their cells as two lists: a key of .h5ad may hold no "/", a label may
        "cells": numbers.tolist(),
        "model": found.record,
    }
    if known.ids is not None:
        card["ontology"] = {"labels": list(known.ids), "ids": list(known.ids.values())}
    return Taught(
        saved=SavedAnnotator(annotator=annotator, card=card),
        obs=found.obs.iloc[taught],
        embedding=found.embedding[taught],
        counts=counts[np.flatnonzero(read)],
        measured=found.measured,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answers:
    """Cells asked for, where they lie, what is said of them, and the record of how."""

    asked: CellVectors
    cells: Views
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
) -> Answers:
    """Embed a query as the reference was, and say what its cells are; warn of what makes the answers worth less."""
    _warn_of_few(saved, error_rate, novelty_rate)
    read, space = saved.card["model"]["options"], saved.annotator.learned.space
    placed: list[Float[np.ndarray, "b C"]] = []
    asked = read_vectors(
        query,
        inference,
        model,
        pool=read["pool"],
        read_depth=read["read_depth"],
        each=lambda block, measured: placed.append(space.place(block, measured)),
        **reading,
    )
    _warn_of_panel(space.share_of(asked.measured))
    cells = Views(embedding=asked.embedding, components=np.concatenate(placed))
    annotation = saved.annotator.annotate(cells, error_rate=error_rate, novelty_rate=novelty_rate)
    _warn_of_strange(annotation, novelty_rate)
    learned = {
        "method": saved.annotator.method,
        "temperature": saved.annotator.temperature,
        "held_out": dict(saved.annotator.held_out),
        "error_rate": error_rate,
        "novelty_rate": novelty_rate,
        "aligned": annotation.aligned,
    }
    record = asked.record | learned | {"annotator": dict(saved.card)}
    return Answers(asked=asked, cells=cells, annotation=annotation, record=record)


def _warn_of_few(saved: SavedAnnotator, error_rate: float, novelty_rate: float) -> None:
    number = len(saved.annotator.of_right_labels)
    rates = {"error_rate": (error_rate, "excludes no label"), "novelty_rate": (novelty_rate, "calls no cell unknown")}
    for name, (rate, then) in rates.items():
        if rate < 1 / (number + 1):
            warnings.warn(
                f"{number:,} cells of the reference could be held out, so {name}={rate:g} {then}; label more cells, "
                f"or ask for {1 / (number + 1):.2g}.",
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


def _check_cells(
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
    panel, _ = _check_cells(query, model, min_genes)
    _, counts = _check_cells(reference, model, min_genes)
    held = counts[panel].sum() / max(counts.sum(), 1)
    if held < 0.5:
        raise GeneMatchError(
            f"the genes that the query measured hold {held:.0%} of the reference's counts; at least half are needed."
        )
    return panel


def _warn_of_panel(share: float) -> None:
    if share < 0.9:
        warnings.warn(
            f"the genes measured here hold {share:.0%} of the counts that the annotator learned from, and confidence, "
            "possible labels and unknown were checked with all; give reference= to have it read in these genes.",
            UserWarning,
            stacklevel=4,
        )
