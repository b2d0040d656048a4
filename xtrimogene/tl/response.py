"""Response of cell lines to single drugs, such as IC50 (as DeepCDR does): as synergy, with one drug a row."""

import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from anndata import AnnData

from xtrimogene.checkpoint import PretrainedModel, require_new_folder
from xtrimogene.config import Pool
from xtrimogene.data.counts import SampleKind
from xtrimogene.tasks.synergy.learned import ResponseConfig
from xtrimogene.tasks.synergy.predictor import ResponsePredictor
from xtrimogene.tasks.synergy.predictor_folder import save_predictor
from xtrimogene.tl.drug_response import Reading, answer_table, learn_table, read_predictor
from xtrimogene.tl.drug_tables import Table, read_table


def fit_response(
    responses: Table,
    cell_lines: AnnData | str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    value_key: str,
    drugs: Mapping[str, str] | None = None,
    drug_key: str = "drug",
    cell_line_key: str = "cell_line",
    tissue_key: str | None = None,
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    kind: SampleKind = "bulk",
    pool: Pool = "mean",
    config: ResponseConfig | None = None,
    num_folds: int = 5,
    seed: int = 0,
    device: str | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> ResponsePredictor:
    """Learn how cell lines respond to single drugs, and measure what that is worth.

    Parameters
    ----------
    responses
        One row for each drug on a cell line, or the path of a CSV.
    value_key
        The column of the response, such as log IC50: a squared error is made small, so give logarithms.
    drugs
        The SMILES of each name. Default: the drug column holds SMILES.
    cell_lines, folder, tissue_key, model, kind, pool, config, num_folds, device, min_genes
        As in `fit_synergy`.

    Returns
    -------
    What `response` asks; ``held_out`` says, for measurements, drugs, cell lines and tissues left out, the root mean
    squared error and Pearson's correlation, and the gain in the latter over additive effects of drug and line.

    Raises
    ------
    FieldError, DrugError, ConfigError, MissingExtraError, CheckpointError, CountsError, GeneMatchError, FileFormatError
        As in `fit_synergy`.
    """
    if folder is not None:
        require_new_folder(Path(folder))
    table = read_table(
        responses, drug_keys=(drug_key,), num_drugs=1, cell_line_key=cell_line_key, drugs=drugs, target_key=value_key
    )
    predictor = learn_table(
        table,
        cell_lines,
        Reading(model=model, kind=kind, pool=pool, device=device, min_genes=min_genes, progress=progress),
        labels=False,
        config=config or ResponseConfig(),
        tissue_key=tissue_key,
        num_folds=num_folds,
        seed=seed,
        card={"target": value_key, "seed": seed, "num_folds": num_folds},
    )
    if folder is not None:
        save_predictor(predictor, folder)
    return predictor


def response(
    responses: Table,
    cell_lines: AnnData | str | os.PathLike[str],
    predictor: ResponsePredictor | str | os.PathLike[str],
    *,
    drugs: Mapping[str, str] | None = None,
    drug_key: str = "drug",
    cell_line_key: str = "cell_line",
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    device: str | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> pd.DataFrame:
    """Say how a cell line responds to a drug, and what such an answer is worth.

    Parameters
    ----------
    responses, cell_lines, drugs, drug_key, cell_line_key
        As in `fit_response`; drugs and lines may be new, and no value is needed. The table may have no column of a name
        that is written here.
    predictor
        What `fit_response` returned, or its folder.
    model
        The one it was fitted with.

    Returns
    -------
    The rows of ``responses``, with ``predicted`` and, as in `synergy`, ``spread``, ``novelty``, ``held_out_pearson``
    and ``error_90``.

    Raises
    ------
    FieldError, DrugError, ConfigError, MissingExtraError, CheckpointError, CountsError, GeneMatchError, FileFormatError
        As in `synergy`.
    """
    read = read_predictor(predictor, num_drugs=1)
    table = read_table(responses, drug_keys=(drug_key,), num_drugs=1, cell_line_key=cell_line_key, drugs=drugs)
    reading = Reading(model=model, kind="bulk", pool=None, device=device, min_genes=min_genes, progress=progress)
    return answer_table(table, cell_lines, read, reading, called="predicted")
