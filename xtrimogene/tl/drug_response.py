"""From a table and cell lines to a predictor, and from a predictor to answers: what one drug and two share."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float32

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.config import Pool
from xtrimogene.data.counts import SampleKind
from xtrimogene.errors import ConfigError, FieldError
from xtrimogene.long_work import progress_bar
from xtrimogene.tasks.synergy.learned import ResponseConfig
from xtrimogene.tasks.synergy.molecules import one_of_each, skeleton
from xtrimogene.tasks.synergy.predictor import ResponsePredictor
from xtrimogene.tasks.synergy.predictor_folder import load_predictor
from xtrimogene.tasks.synergy.response_table import DrugSet, ResponseRows
from xtrimogene.tl.cell_lines import read_cell_lines
from xtrimogene.tl.drug_tables import DrugTable
from xtrimogene.tl.embedding import require_model

MINIMUM_FOLDS = 2
SAME_PROFILE = 0.01  # of its length a vector may move: devices and number formats differ by less


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How cell lines are read and embedded."""

    model: PretrainedModel | str | os.PathLike[str]
    kind: SampleKind
    pool: Pool | None
    device: str | None
    min_genes: int
    progress: bool


def learn_table(
    table: DrugTable,
    cell_lines: AnnData | str | os.PathLike[str],
    reading: Reading,
    *,
    labels: bool,
    config: ResponseConfig,
    tissue_key: str | None,
    num_folds: int,
    seed: int,
    card: Mapping[str, Any],
) -> ResponsePredictor:
    """Embed the lines of a table with a target and fit a predictor, its worth on held-out rows included."""
    assert table.target is not None
    if num_folds < MINIMUM_FOLDS:
        raise ConfigError(f"num_folds={num_folds} leaves nothing out; give at least {MINIMUM_FOLDS}.")
    lines = read_cell_lines(
        cell_lines,
        table.lines,
        load(reading.model),
        kind=reading.kind,
        pool=reading.pool,
        tissue_key=tissue_key,
        device=reading.device,
        min_genes=reading.min_genes,
        progress=reading.progress,
    )
    drugs = DrugSet(one_of_each(one for row in table.smiles for one in row))
    rows = ResponseRows(drugs=table.places(drugs.smiles), lines=table.line_places(lines.names), target=table.target)
    ways = 3 + (rows.drugs.shape[1] > 1) + (tissue_key is not None)
    networks = config.num_networks * (ways * num_folds + 1)
    with progress_bar("Training networks", networks, shown=reading.progress) as advance:
        return ResponsePredictor.fit(
            rows,
            drugs,
            lines.names,
            lines.vectors,
            config,
            labels=labels,
            tissues=lines.tissues,
            num_folds=num_folds,
            seed=seed,
            card={**card, "model": lines.record, "version": version("xtrimogene"), "num_rows": len(rows)},
            progress=advance,
        )


def answer_table(
    table: DrugTable,
    cell_lines: AnnData | str | os.PathLike[str],
    predictor: ResponsePredictor,
    reading: Reading,
    *,
    called: str,
) -> pd.DataFrame:
    """Return the table with answers beside each row.

    Raises
    ------
    CheckpointError
        The predictor was fitted with another model.
    FieldError
        The table has a column of a name that the answer writes.

    Warns
    -----
    UserWarning
        A line has the name of one that was learned, and another profile.
    """
    labels = predictor.learned.labels
    extra = ("held_out_auroc",) if labels else ("held_out_pearson", "error_90")
    if taken := [name for name in (called, "spread", "novelty", *extra) if name in table.frame.columns]:
        raise FieldError(f"the table has a column {taken[0]!r}, which the answer would replace; rename or drop it.")
    model, made = load(reading.model), predictor.card["model"]
    require_model(made, model, "the predictor was fitted on", "fit again")
    lines = read_cell_lines(
        cell_lines,
        table.lines,
        model,
        kind=made["options"]["kind"],
        pool=made["options"]["pool"],
        device=reading.device,
        min_genes=reading.min_genes,
        progress=reading.progress,
    )
    names = (*predictor.lines, *(name for name in lines.names if name not in predictor.lines))
    cells = np.zeros((len(names), lines.vectors.shape[1]), np.float32)
    cells[[names.index(name) for name in lines.names]] = lines.vectors
    _warn_of_other_profiles(lines.names, lines.vectors, predictor)
    known = set(map(skeleton, predictor.smiles))
    asked = one_of_each(one for row in table.smiles for one in row)
    drugs = DrugSet((*predictor.smiles, *(one for one in asked if skeleton(one) not in known)))
    number = len(table.lines)
    rows = ResponseRows(
        drugs=table.places(drugs.smiles), lines=table.line_places(names), target=np.full(number, np.nan, np.float32)
    )
    answers = predictor.predict(rows, drugs, cells)
    columns: dict[str, Any] = {
        called: answers.value,
        "spread": answers.spread,
        "novelty": pd.Categorical(answers.novelty),
    }
    columns["held_out_auroc" if labels else "held_out_pearson"] = answers.held_out
    if not labels:
        columns["error_90"] = answers.error_90
    return table.frame.assign(**columns)


def _warn_of_other_profiles(
    names: Sequence[str], vectors: Float32[np.ndarray, "L C"], predictor: ResponsePredictor
) -> None:
    learned = dict(zip(predictor.lines, predictor.cells, strict=True))
    other = [
        name
        for name, own in zip(names, vectors, strict=True)
        if name in learned and np.linalg.norm(own - learned[name]) > SAME_PROFILE * np.linalg.norm(learned[name])
    ]
    if other:
        warnings.warn(
            f"cell line {other[0]!r}{f' and {len(other) - 1} others' if other[1:] else ''}: another profile than that "
            "learned under this name; what is known of that line is taken to hold. Rename it if it is another line.",
            UserWarning,
            stacklevel=4,
        )


def read_predictor(predictor: ResponsePredictor | str | os.PathLike[str], num_drugs: int) -> ResponsePredictor:
    """Return a predictor of so many drugs a row.

    Raises
    ------
    CheckpointError
        No such folder.
    ConfigError
        It is one of the other kind.
    """
    read = predictor if isinstance(predictor, ResponsePredictor) else load_predictor(predictor)
    if read.num_drugs != num_drugs:
        by = {1: "fit_response, for xtrimogene.tl.response", 2: "fit_synergy, for xtrimogene.tl.synergy"}
        raise ConfigError(f"the predictor was made by xtrimogene.training.{by[read.num_drugs]}.")
    return read
