"""What the studies of this folder share: real cells to train and validate on, losses by cell, results in a file."""

import fcntl
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from xtrimogene.config import MaskingConfig
from xtrimogene.data.cell_store import CellsInMemory, join, open_stores
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.masking import MaskedCells, mask_cells
from xtrimogene.long_work import whole_file

SHARED = Path(__file__).resolve().parents[2] / "shared"
TRAINING = [
    "baron_h1",
    "copykat_tnbc_302",
    "malt_tumour_10x",
    "npc_154",
    "pbmc3k",
    "pbmc_10x_3chem_3k",
    "pbmc_10x_v3_400",
    "rogue_lung_tumour_dc_913",
    "soupx_pbmc4k_2170",
    "trex_covid_tcells_320",
    "wu2020_tcells_200",
]
VALIDATION = ["zheng_pbmc_donorA", "wu2021_breast_CID4465", "zilionis_lung_300", "celltypist_sample_559"]
JOINED = {"pbmc_10x_3chem_3k": "batch"}


def read_studies(studies: Sequence[str], genes: GeneVocabulary, folder: Path) -> CellsInMemory:
    files = [folder / f"{study}.h5ad" for study in studies]
    joined = {str(folder / f"{study}.h5ad"): key for study, key in JOINED.items()}
    cells = join(open_stores(files, genes, min_genes=200, joined_by=joined))
    assert isinstance(cells, CellsInMemory)
    return cells


def hold_out(cells: CellsInMemory, num_cells: int) -> tuple[CellsInMemory, CellsInMemory]:
    """Return cells to train on and, drawn from all studies, so many others: the same ones always."""
    order = np.random.default_rng(1).permutation(cells.counts.shape[0])
    return only_cells(cells, np.sort(order[num_cells:])), only_cells(cells, np.sort(order[:num_cells]))


def only_cells(cells: CellsInMemory, rows: Int64[np.ndarray, "B"]) -> CellsInMemory:
    return replace(cells, counts=cells.counts[rows], panel=cells.panel[rows])


def hidden_means(cells: CellsInMemory, masking: MaskingConfig) -> Tensor:
    """Return each gene's mean where it is hidden: the best a model can do that reads nothing of a cell."""
    raw, generator = cells.counts, np.random.default_rng(0)
    batch = mask_cells(raw, raw, masking, generator, measured=cells.measured, panel=cells.panel)
    genes, num_genes = batch.hidden.gene_ids, raw.shape[1]
    return genes.bincount(batch.targets, num_genes) / genes.bincount(minlength=num_genes).clamp(min=1)


def cell_errors(predicted: Iterable[Tensor], batches: Iterable[MaskedCells]) -> dict[str, np.ndarray]:
    """Return mean squared errors of each validation cell: over all its hidden genes, its zeros, its non-zeros."""
    errors: dict[str, list[Tensor]] = {"loss": [], "zero": [], "nonzero": []}
    for prediction, batch in zip(predicted, batches, strict=True):
        squares, lengths = (prediction - batch.targets).square(), batch.hidden.segments.lengths
        for square, target in zip(squares.split(lengths), batch.targets.split(lengths), strict=True):
            errors["loss"].append(square.mean())
            errors["zero"].append(square[target == 0].mean())
            errors["nonzero"].append(square[target > 0].mean())
    return {name: torch.stack(values).double().numpy() for name, values in errors.items()}


def interval(differences: Float[np.ndarray, "B"]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over cells."""
    random = np.random.default_rng(0)
    means = differences[random.integers(len(differences), size=(10_000, len(differences)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def read_results(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def write_result(path: Path, name: str, result: dict[str, Any]) -> None:
    """Add a result; runs that go side by side wait for one another."""
    with open(Path(tempfile.gettempdir()) / f"{path.stem}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = read_results(path) | {name: result}
        with whole_file(path) as whole:
            whole.write_text(json.dumps(dict(sorted(results.items()))) + "\n")
