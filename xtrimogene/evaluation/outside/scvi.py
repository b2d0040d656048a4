"""scVI (Lopez et al., 2018), and scANVI (Xu et al., 2021) mapped to new cells by scArches (Lotfollahi et al., 2022)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Int, Shaped
from scipy.sparse import csr_matrix

from xtrimogene.evaluation.baselines import highly_variable_genes, log_normalize
from xtrimogene.evaluation.choice import read_features
from xtrimogene.evaluation.comparison import Method
from xtrimogene.evaluation.outside.quiet import quiet
from xtrimogene.evaluation.trials import Answer, Lesson

SCVI, SCANVI = "scVI", Method(features="scANVI*", classifier=None)
NO_LABEL = "no label"
SCARCHES: Mapping[str, Any] = {  # what its authors ask of a model that is to be mapped
    "use_layer_norm": "both",
    "use_batch_norm": "none",
    "encode_covariates": True,
    "n_layers": 2,
}


def run_scvi(lesson: Lesson, strengths: Sequence[float], *, epochs: int | None = None) -> Mapping[Method, Answer]:
    """Train on the 2,000 HVG of the cells learned from, without batches; the others pass through the same encoder."""
    genes = highly_variable_genes(log_normalize(lesson.counts))
    cells, asked = _cells(lesson.counts, genes), _cells(lesson.asked, genes)
    with quiet(lesson.seed):
        from scvi.model import SCVI as Model

        Model.setup_anndata(cells)
        model = Model(cells)
        model.train(max_epochs=_epochs(cells, epochs), **_training(cells))
        placed, there = model.get_latent_representation(), model.get_latent_representation(asked)
    return read_features(SCVI, placed, there, lesson, strengths, scaling="each")


def run_scanvi(lesson: Lesson, *, epochs: int | None = None) -> Mapping[Method, Answer]:
    """Train scVI with batches, go on with labels, and map the cells asked for, whose counts are learned from too."""
    genes = highly_variable_genes(log_normalize(lesson.counts))
    cells = _cells(lesson.counts, genes, lesson.batches, lesson.labels)
    asked = _cells(lesson.asked, genes, lesson.asked_batches, np.full(lesson.asked.shape[0], NO_LABEL))
    before = _epochs(cells, epochs)
    after = max(before // 5, 1)
    with quiet(lesson.seed):
        from scvi.model import SCANVI as Labelled
        from scvi.model import SCVI as Model

        Model.setup_anndata(cells, batch_key="batch")
        model = Model(cells, **SCARCHES)
        model.train(max_epochs=before, **_training(cells))
        labelled = Labelled.from_scvi_model(model, unlabeled_category=NO_LABEL, labels_key="label")
        labelled.train(max_epochs=after, n_samples_per_label=100, **_training(cells))
        mapped = Labelled.load_query_data(asked, labelled, accelerator="cpu")
        mapped.train(max_epochs=after, plan_kwargs={"weight_decay": 0.0}, **_training(asked))
        labels = np.asarray(mapped.predict(asked)).astype(str)
    return {SCANVI: Answer(labels=labels)}


def _cells(
    counts: csr_matrix,
    genes: Int[np.ndarray, " H"],
    batches: Shaped[np.ndarray, " n"] | None = None,
    labels: Shaped[np.ndarray, " n"] | None = None,
) -> AnnData:
    named = {"batch": batches, "label": labels}
    obs = {name: pd.Categorical(values.astype(str)) for name, values in named.items() if values is not None}
    return AnnData(
        csr_matrix(counts[:, genes]),
        obs=pd.DataFrame(obs, index=[f"cell {number}" for number in range(counts.shape[0])]),
        var=pd.DataFrame(index=[f"gene {number}" for number in range(len(genes))]),
    )


def _epochs(cells: AnnData, epochs: int | None) -> int:
    """Return how often all cells are seen: as asked, or scvi-tools' own rule."""
    return epochs or max(min(400, round(20_000 / cells.n_obs * 400)), 1)


def _training(cells: AnnData) -> dict[str, Any]:
    """Train on all cells, in batches of which none has a single cell: batch normalisation cannot take it."""
    size = 128
    while cells.n_obs > 1 and cells.n_obs % size == 1:
        size += 1
    silent = {
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "logger": False,
        "enable_model_summary": False,
    }
    return {
        "train_size": 1.0,
        "shuffle_set_split": False,
        "batch_size": size,
        "accelerator": "cpu",
        "devices": 1,
        **silent,
    }
