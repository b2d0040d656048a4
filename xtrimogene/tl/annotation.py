"""Cell types of a query, learned from a labelled reference."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

from xtrimogene.checkpoint import PretrainedModel, load, require_new_folder
from xtrimogene.config import FineTuneConfig
from xtrimogene.data.cell_ontology import CellOntology
from xtrimogene.errors import ConfigError
from xtrimogene.inference import Inference
from xtrimogene.tasks.annotation import voting
from xtrimogene.tasks.annotation.annotator import check_candidates, check_options
from xtrimogene.tasks.annotation.annotator_folder import SavedAnnotator, load_annotator, save_annotator
from xtrimogene.tasks.annotation.learned import AnnotationMethod
from xtrimogene.tl.answer_columns import answer_columns, label_column, ontology_columns, write_columns
from xtrimogene.tl.answering import answer
from xtrimogene.tl.embedding import record_key, require_model, warn_of_unread
from xtrimogene.tl.label_options import read_candidates, read_markers
from xtrimogene.tl.learning import Learning, learn, read_tuning, shared_panel
from xtrimogene.tl.reference_labels import read_labels


def annotate(
    query: AnnData | str | os.PathLike[str],
    *,
    reference: AnnData | str | os.PathLike[str] | None = None,
    annotator: SavedAnnotator | str | os.PathLike[str] | None = None,
    label_key: str | None = None,
    group_key: str | None = None,
    ontology_key: str | None = None,
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    method: AnnotationMethod | None = None,
    batch_key: str | None = None,
    tuning: FineTuneConfig | None = None,
    baselines: bool | None = None,
    candidates: Iterable[str] | None = None,
    markers: Mapping[str, Sequence[str]] | None = None,
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
    reference, label_key, group_key, ontology_key, method, batch_key, tuning
        Labelled cells to learn from, as in `fit_annotator`; genes that one of the two did not measure are not read.
    baselines, align
        As in `fit_annotator`; by default both.
    annotator
        Instead of these, a folder that `fit_annotator` wrote, or what `load_annotator` read of it; genes that its
        reference did not measure are not read.
    model
        As in `embed`; with ``annotator``, the model it was fitted with.
    candidates
        The labels that may be given, such as those of a sorted sample: every cell gets one of them, or is unknown, and
        confidence is that among them. Default: all.
    markers
        More labels for method "match", each described by its marker genes alone: ``{"Platelet": ["PPBP", "PF4"]}``.
        No cell of them could be held out: the rates are checked for the other labels. Such a cell is unknown where its
        markers speak against it rather than for it.
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
    reference that were held out; there a cell's label counts also where it would be called unknown.

    Raises
    ------
    FieldError
        No such column in ``reference.obs``, or it holds decimal numbers, or a label with " | " in it.
    ConfigError
        Neither a reference with a label_key nor an annotator, or both; fewer than two labels; a rate that is none; a
        candidate that is no label; markers for another method than "match", or of a label that the reference has; an
        option of `embed` that cannot be.
    MissingExtraError
        Types have ids, and cellxgene-ontology-guide is not installed: pip install 'xtrimogene[ontology]'.
    CheckpointError
        No such annotator, or one fitted with another model; or as in `embed`.
    CountsError, GeneMatchError, FileFormatError
        As in `embed`; a marker is no gene of the model's.

    Warns
    -----
    UserWarning
        As in `embed`; cells of the reference are not used: their label is "unknown", or they have no group or batch
        where one is asked for; so few cells could be held out that a rate excludes no label, or calls no cell unknown;
        three times as many cells are unknown as the rate says; markers that were not measured; many cells whose best
        label is no candidate; or fine-tuning made held-out cells no better told apart.
    """
    check_options(method=method or "ensemble", error_rate=error_rate, novelty_rate=novelty_rate)
    key_added = record_key(key_added)
    loaded = load(model)
    described, candidates = read_markers(markers, loaded.genes), read_candidates(candidates)
    reading: dict[str, Any] = {"min_genes": min_genes, "progress": progress}
    learning = (reference, label_key, group_key, ontology_key, method, batch_key, tuning, baselines, align)
    if annotator is not None and all(one is None for one in learning):
        name, saved = "the annotator", annotator
        if not isinstance(saved, SavedAnnotator):
            name, saved = repr(os.fspath(saved)), load_annotator(saved)
        require_model(saved.card["model"], loaded, f"{name} was fitted on", "fit again")
        inference = Inference(loaded, device=device, token_budget=token_budget)
        ontology = CellOntology() if "ontology" in saved.card else None
    elif annotator is None and reference is not None and label_key is not None:
        tuned = read_tuning(method or "ensemble", batch_key, tuning)
        labels = read_labels(reference, label_key, group_key, ontology_key, batch_key)
        check_candidates(np.unique(labels.labels[labels.used]), candidates, described, method or "ensemble")
        inference = Inference(loaded, device=device, token_budget=token_budget)
        ontology = None if ontology_key is None else CellOntology()
        options = Learning(
            method=method or "ensemble",
            align=True if align is None else align,
            baselines=True if baselines is None else baselines,
            panel=shared_panel(query, reference, loaded, min_genes),
            tuning=tuned,
        )
        saved = learn(reference, labels, inference, loaded, options, reading).saved
    else:
        raise ConfigError("annotate needs reference= with label_key=, or annotator= without any option of learning.")
    answers = answer(
        query,
        saved,
        inference,
        loaded,
        reading,
        error_rate=error_rate,
        novelty_rate=novelty_rate,
        candidates=candidates,
        described=described,
    )
    asked, annotation = answers.asked, answers.annotation
    warn_of_unread(asked)
    written = query if isinstance(query, AnnData) else AnnData(obs=asked.obs)
    columns = answer_columns(annotation)
    if ontology is not None:
        columns |= ontology_columns(annotation, saved.card["ontology"], ontology)
    if vote:
        columns["voted"] = label_column(annotation, voting.vote(asked.embedding, annotation.probabilities))
    write_columns(written, columns, key_added)
    record = answers.record
    if markers:
        record["described"] = [f"{name}: {', '.join(genes)}" for name, genes in markers.items()]
    written.uns[f"{key_added}_annotation"] = record
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
    batch_key: str | None = None,
    tuning: FineTuneConfig | None = None,
    baselines: bool = True,
    align: bool = True,
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> Path:
    """Learn labels once, and keep what was learned in a folder for `annotate`.

    The model's weights are not in it, but for those that "finetune" changes.

    Parameters
    ----------
    reference
        Labelled cells x genes, or the path of an .h5ad or .zarr; it is not changed.
    folder
        Must not exist yet, or be an empty folder.
    label_key, group_key, ontology_key
        Columns of ``reference.obs``: the cell types (a cell without one, or that is "unknown", is not used), the donor,
        study or batch, and the types' ids in the Cell Ontology (`xtrimogene.get.cell_ontology_ids` finds them by name).
        With groups, confidence is checked in groups that were not learned from; without, in other cells of the same.
    method
        "ensemble": the mean probability of two logistic regressions, on the embedding and on the reference's HVG + PCA.
        "linear": that on the embedding alone. "knn": the 15 nearest cells of the reference vote. "match": each pair of
        a cell and a label is judged by itself, by what the ensemble says and by the label's marker genes, so that
        `annotate` may be given labels that the reference lacks; where labels have cells, the ensemble does a little
        better. "finetune": the ensemble, with the last layers of the model's encoder trained on the labels as long as
        cells that are held out are told apart better; for a GPU (on a CPU core, twenty minutes with the demo model, and
        longer where cells express more than a thousand genes).
    batch_key
        A column of ``reference.obs`` with batches that "finetune" is to make alike, label by label; cells without one
        are not used.
    tuning
        How "finetune" trains (`xtrimogene.training.FineTuneConfig`); its ``step_tokens`` bound the memory.
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
    ``folder``: card.md, a model card that says what the labels are worth in held-out cells, annotator.json,
    arrays.safetensors and, for "finetune", tuned.safetensors.

    Warns
    -----
    UserWarning
        Cells of the reference that have no counts in the model's genes, or no group or batch where one is asked for, or
        whose label is "unknown", teach nothing; fine-tuning made held-out cells no better told apart.

    Raises
    ------
    FieldError, ConfigError, MissingExtraError, CheckpointError, CountsError, GeneMatchError, FileFormatError
        As in `annotate`; the folder exists and holds something, or cannot be written.
    """
    check_options(method=method)
    tuned = read_tuning(method, batch_key, tuning)
    require_new_folder(Path(folder))
    labels = read_labels(reference, label_key, group_key, ontology_key, batch_key)
    loaded = load(model)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    reading = {"min_genes": min_genes, "progress": progress}
    options = Learning(method=method, align=align, baselines=baselines, tuning=tuned)
    return save_annotator(learn(reference, labels, inference, loaded, options, reading).saved, folder)
