"""A query laid onto a labelled reference: one space and one plane for both, and the reference's labels."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.config import FineTuneConfig
from xtrimogene.inference import Inference
from xtrimogene.tasks.annotation.annotator import check_options
from xtrimogene.tasks.annotation.learned import AnnotationMethod
from xtrimogene.tasks.joint_space import EMBEDDING_WEIGHT, JointSpace
from xtrimogene.tasks.local_shift import LocalShift, voters
from xtrimogene.tasks.umap_layout import UmapLayout, require_cells
from xtrimogene.tl.answer_columns import answer_columns
from xtrimogene.tl.answering import answer
from xtrimogene.tl.embedding import record_key, warn_of_unread
from xtrimogene.tl.joined_obs import join_obs
from xtrimogene.tl.learning import Learning, learn, read_tuning, shared_panel
from xtrimogene.tl.reference_labels import read_labels

REFERENCE, QUERY = "reference", "query"


def map_to_reference(
    query: AnnData | str | os.PathLike[str],
    reference: AnnData | str | os.PathLike[str],
    *,
    label_key: str,
    group_key: str | None = None,
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    method: AnnotationMethod = "ensemble",
    batch_key: str | None = None,
    tuning: FineTuneConfig | None = None,
    baselines: bool = True,
    align: bool = True,
    error_rate: float = 0.1,
    novelty_rate: float = 0.05,
    umap: bool = True,
    seed: int = 0,
    key_added: str = "xtrimogene",
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> AnnData:
    """Lay a query onto a labelled reference, in one space and on one UMAP, and give its cells the reference's labels.

    What comes back is one new AnnData of both, the reference's cells first, which every plot and neighbour graph of
    scanpy takes as it is; neither input is changed. The query: ``mapped[mapped.obs["xtrimogene_source"] == "query"]``.

    Parameters
    ----------
    query
        Cells x genes, or the path of an .h5ad or .zarr; counts and genes are found as in `embed`.
    reference, label_key, group_key, method, batch_key, tuning, baselines
        As in `annotate`. Cells without a label are left out, and of more than 20,000 so many are drawn, rare labels up
        to 100 times.
    align
        Move the query as a whole by what the cells of most labels are displaced by beside the reference's, as another
        protocol moves them, and then each part of it by what its cells that lie near are still displaced by; the
        reference stays where it is, and labels are given before the second. It needs ten cells each of three types, and
        is left out where labels are not displaced alike. With False, no query cell's place or label depends on the
        others.
    error_rate, novelty_rate
        As in `annotate`.
    umap
        Fit a UMAP on the reference alone and project the query onto it; seconds per thousand cells.
    seed
        Of the UMAP.
    key_added
        How the new columns of ``obs`` begin, and what stands after "X_" in ``obsm``.
    model, device, token_budget, min_genes
        As in `embed`.

    Returns
    -------
    A new AnnData without X. ``obsm["X_xtrimogene"]``: the joint space, embedding first, then HVG + PCA of the
    reference; distances in it are Euclidean. ``obsm["X_umap"]``. ``obs``: the columns of both; ``xtrimogene_source``,
    "reference" or "query"; ``xtrimogene_label``, a reference cell's own label and what a query cell gets, "unknown"
    where it is of no type of the reference; and for the query ``xtrimogene_confidence``, ``xtrimogene_possible`` and
    ``xtrimogene_unknown``, as `annotate` gives them. Cells keep their names; where one is in both, all names get
    "-reference" or "-query" at the end. A query cell without counts in the model's genes has NaN rows and no label.
    ``uns["xtrimogene_map"]`` says how, and what the labels are worth in cells of the reference that were held out.

    Raises
    ------
    FieldError, ConfigError, CheckpointError, CountsError, GeneMatchError, FileFormatError
        As in `annotate`.

    Warns
    -----
    UserWarning
        As in `annotate`.
    """
    check_options(method=method, error_rate=error_rate, novelty_rate=novelty_rate)
    key_added = record_key(key_added)
    reading: dict[str, Any] = {"min_genes": min_genes, "progress": progress}
    tuned = read_tuning(method, batch_key, tuning)
    labels = read_labels(reference, label_key, group_key, None, batch_key)
    if umap:
        require_cells(int(labels.used.sum()))
    loaded = load(model)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    panel = shared_panel(query, reference, loaded, min_genes)
    options = Learning(method=method, align=align, baselines=baselines, panel=panel, tuning=tuned)
    taught = learn(reference, labels, inference, loaded, options, reading)
    answers = answer(query, taught.saved, inference, loaded, reading, error_rate=error_rate, novelty_rate=novelty_rate)
    warn_of_unread(answers.asked)

    learned = taught.saved.annotator.learned
    known = learned.view(taught.embedding, taught.counts, taught.measured)
    space = JointSpace.fit(known)
    asked, read = answers.annotation.cells, answers.annotation.best >= 0
    places = [space.place(known), np.full((len(read), len(space.center)), np.nan, np.float32)]
    places[1][read] = space.place(asked)
    if answers.annotation.aligned:
        places[1][read] = LocalShift.fit(places[0]).move(places[1][read], voters(learned, asked))
    columns = _columns(taught.obs[label_key], answer_columns(answers.annotation))
    columns = {f"{key_added}_{name}": column for name, column in columns.items()}
    obs = join_obs({REFERENCE: taught.obs, QUERY: answers.asked.obs}, without=columns)
    mapped = AnnData(obs=obs.assign(**columns), obsm={f"X_{key_added}": np.concatenate(places)})
    if umap:
        layout = UmapLayout.fit(places[0], seed=seed)
        mapped.obsm["X_umap"] = np.concatenate([layout.places, layout.project(places[1])])
    of_map = {"label_key": label_key, "embedding_weight": EMBEDDING_WEIGHT} | ({"umap_seed": seed} if umap else {})
    mapped.uns[f"{key_added}_map"] = answers.record | of_map
    return mapped


def _columns(own: pd.Series, answered: Mapping[str, Any]) -> dict[str, Any]:
    """Return the new columns, reference first: its own labels, and nothing where only the query is answered."""
    number, asked = len(own), len(answered["confidence"])
    names = list(answered["label"].categories)
    label = np.concatenate([own.astype(object).map(str).to_numpy(), answered["label"].astype(object)])
    possible = np.concatenate([np.full(number, None), answered["possible"].astype(object)])
    return {
        "source": pd.Categorical([REFERENCE] * number + [QUERY] * asked, categories=[REFERENCE, QUERY]),
        "label": pd.Categorical(label, categories=names),
        "confidence": np.concatenate([np.full(number, np.nan, np.float32), answered["confidence"]]),
        "possible": pd.Categorical(possible),
        "unknown": np.concatenate([np.zeros(number, dtype=bool), answered["unknown"]]),
    }
