"""Synergy of two drugs on a cell line: learned from a table, asked for any pair and line."""

import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from anndata import AnnData

from xtrimogene.checkpoint import PretrainedModel, require_new_folder
from xtrimogene.config import Pool
from xtrimogene.data.counts import SampleKind
from xtrimogene.errors import ConfigError
from xtrimogene.tasks.synergy.learned import ResponseConfig
from xtrimogene.tasks.synergy.predictor import ResponsePredictor
from xtrimogene.tasks.synergy.predictor_folder import save_predictor
from xtrimogene.tl.drug_response import Reading, answer_table, learn_table, read_predictor
from xtrimogene.tl.drug_tables import Table, read_table


def fit_synergy(
    pairs: Table,
    cell_lines: AnnData | str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    drugs: Mapping[str, str] | None = None,
    label_key: str | None = None,
    score_key: str | None = None,
    drug_keys: tuple[str, str] = ("drug1", "drug2"),
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
    """Learn which pairs of drugs act together on which cell lines, and measure what that is worth.

    Networks are trained on the CPU, about a second each for 10,000 rows: three for each of five folds of each split,
    and three that answer.

    Parameters
    ----------
    pairs
        One row for each two drugs on a cell line, or the path of a CSV; the order of the two says nothing.
    cell_lines
        Cell lines x genes, ``obs_names`` the names of the lines: TPM or counts. Lines that no row names are not used.
    folder
        Where to keep what was learned, for `synergy`; must not exist yet, or be empty. Default: it is only returned.
    drugs
        The SMILES of each name. Default: the drug columns hold SMILES. Salts and stereoisomers of a drug are that drug:
        of those in the table, the one with the shortest SMILES is read for all.
    label_key, score_key
        The column of labels, 1 for synergy and 0 for none, or that of scores; one of the two.
    tissue_key
        A column of ``cell_lines.obs``: whole tissues are left out too.
    kind
        "single_cell" where cell_lines holds counts of single cells, such as means of their sums.
    pool
        How a line's genes are pooled, as in `embed`.
    config
        How networks are made and trained; ``ResponseConfig(drug_view="graph")`` reads graphs of drugs in place of
        Morgan fingerprints.
    num_folds
        Of each split: measurements, pairs, drugs, cell lines and, with ``tissue_key``, tissues left out.
    model, device, min_genes
        As in `embed`.

    Returns
    -------
    What `synergy` asks; ``held_out`` says, for rows with a measurement, pair, drug, two drugs ("drugs"), cell_line or
    tissue left out and all else known, the metrics, their interval by what was left out, those of additive effects of
    drugs and line, and the gain over them. What the table cannot test is not there.

    Raises
    ------
    FieldError
        A column that is missing or lacks a value, a label that is not 0 or 1, a line that cell_lines lacks.
    DrugError
        A name that ``drugs`` lacks, a SMILES that is no molecule, the same drug twice in a row.
    ConfigError
        Both or neither of label_key and score_key; too few rows, drugs or lines to leave any out; drugs that cannot be
        told apart; not two drug_keys.
    MissingExtraError
        RDKit is not installed.
    CheckpointError, CountsError, GeneMatchError, FileFormatError
        As in `embed`; ``folder`` exists and holds something.

    Warns
    -----
    UserWarning
        Nothing could be measured with drugs left out, say, where two drugs are in every pair between them.
    """
    if (label_key is None) == (score_key is None):
        raise ConfigError("fit_synergy needs label_key= or score_key=, one of the two.")
    if folder is not None:
        require_new_folder(Path(folder))
    target_key = label_key if score_key is None else score_key
    table = read_table(
        pairs,
        drug_keys=drug_keys,
        num_drugs=2,
        cell_line_key=cell_line_key,
        drugs=drugs,
        target_key=target_key,
        labels=label_key is not None,
    )
    predictor = learn_table(
        table,
        cell_lines,
        Reading(model=model, kind=kind, pool=pool, device=device, min_genes=min_genes, progress=progress),
        labels=label_key is not None,
        config=config or ResponseConfig(),
        tissue_key=tissue_key,
        num_folds=num_folds,
        seed=seed,
        card={"target": target_key, "seed": seed, "num_folds": num_folds},
    )
    if folder is not None:
        save_predictor(predictor, folder)
    return predictor


def synergy(
    pairs: Table,
    cell_lines: AnnData | str | os.PathLike[str],
    predictor: ResponsePredictor | str | os.PathLike[str],
    *,
    drugs: Mapping[str, str] | None = None,
    drug_keys: tuple[str, str] = ("drug1", "drug2"),
    cell_line_key: str = "cell_line",
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    device: str | None = None,
    min_genes: int = 200,
    progress: bool = True,
) -> pd.DataFrame:
    """Say how likely two drugs act together on a cell line, and what such an answer is worth.

    Parameters
    ----------
    pairs, cell_lines, drugs, drug_keys, cell_line_key
        As in `fit_synergy`; drugs and lines may be new. The table may have no column of a name that is written here.
    predictor
        What `fit_synergy` returned, or its folder.
    model
        The one it was fitted with.

    Returns
    -------
    The rows of ``pairs``, with: ``probability`` of synergy, or ``score``; ``spread``, the standard deviation of that
    over networks; ``novelty``: "measured", "known pair", "new pair", "new drug" (one), "new drugs" (both), "new cell
    line", or a line and one of the others; ``held_out_auroc`` (for scores ``held_out_pearson``), measured on held-out
    rows as new as this one and no others. It is NaN for "measured", for a new line with a pair or drug that is new too,
    and where the table had too few such rows. Probabilities are calibrated on held-out rows of the same novelty, or the
    nearest that could be held out; without any they are not. For scores, ``error_90``: nine in ten held-out rows of
    this novelty were off by less.

    Raises
    ------
    FieldError, DrugError, MissingExtraError, CountsError, GeneMatchError, FileFormatError
        As in `fit_synergy`.
    CheckpointError
        No such predictor, or one fitted with another model.
    ConfigError
        A predictor of single drugs; not two drug_keys.

    Warns
    -----
    UserWarning
        A line has the name of one that was learned, and another profile.
    """
    read = read_predictor(predictor, num_drugs=2)
    table = read_table(pairs, drug_keys=drug_keys, num_drugs=2, cell_line_key=cell_line_key, drugs=drugs)
    reading = Reading(model=model, kind="bulk", pool=None, device=device, min_genes=min_genes, progress=progress)
    return answer_table(table, cell_lines, read, reading, called="probability" if read.learned.labels else "score")
