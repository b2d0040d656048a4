"""What cells would show if they were read more deeply, from an AnnData or a file of one."""

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float64, Int64
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.data.blocks import CellBlocks, open_cells
from xtrimogene.data.counts import InputKind
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import ConfigError, GeneMatchError
from xtrimogene.inference import Inference, readable_cells
from xtrimogene.long_work import progress_bar
from xtrimogene.tasks.denoising.denoiser import Denoiser
from xtrimogene.tasks.denoising.molecules import PER, totals_of
from xtrimogene.tasks.denoising.predictor import Predictor, Through
from xtrimogene.tl.denoised_file import Block, MemoryMatrix, PartialMatrix, require_new_file
from xtrimogene.tl.embedding import record_key

Unit = Literal["log1p", "counts"]
FITTED_CELLS, KEPT_CELLS = 1_000, 4_000  # read by the model; looked among for neighbours, too
DEEPER = 10  # than the deepest cell, by default
_BLOCK_BYTES = 32 << 20  # of one array of a block; a few are alive at once


def denoise(
    adata: AnnData | str | os.PathLike[str],
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    *,
    target_depth: float | int | None = None,
    genes: Sequence[str] | None = None,
    unit: Unit = "log1p",
    threshold: float | int | None = None,
    through: Through | None = None,
    out: str | os.PathLike[str] | None = None,
    key_added: str = "xtrimogene_denoised",
    layer: str | None = None,
    input_kind: InputKind = "auto",
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    max_gigabytes: float | int = 8.0,
    seed: int = 0,
    progress: bool = True,
) -> AnnData:
    """Write what each cell is expected to show at ``target_depth`` counts into ``adata.layers["xtrimogene_denoised"]``.

    The counts that were seen are kept, and those that were not are expected from three things: the model's prediction
    at that depth, calibrated gene by gene on these cells; the molecules of neighbouring cells (weighed as in MAGIC);
    and the cell's own (gamma-Poisson, as in SAVER). How far to believe each, and how many neighbours, is chosen by
    molecular cross-validation, without labels. The model is calibrated on at most 1,000 of the cells, and neighbours
    are looked for among at most about 4,000, so memory does not grow with the number of cells.

    What it is worth: with the demo model, in two studies of blood (Hao, Kang) thinned to 10, 20 and 50 %, it told
    removed molecules better than MAGIC-like smoothing and own counts in the same posterior, by .008 to .05 nats a
    molecule, about half of it by how neighbours are found; and better than itself without the model, by .004 to .02.
    With many molecules that goes: in cell lines (Tian) it was better by .007 and .006 at 10 and 20 %, worse by .009 at
    50 %; in fetal brain read to 100 times the counts (Camp) worse by .001, and the model told nothing. scVI, trained
    for 116 epochs (220 in Camp), told less everywhere. To be told the depth changed .003 at most, for better in Hao and
    for worse in Kang. By squared error of log values the counts were better still in Kang and Camp.
    benchmarks/results/denoising.md has the numbers, of three thinnings; there the model was calibrated on 60 to 400
    cells.

    Use it to look at genes and to draw. Do not test on it: genes that vary with nothing become correlated (Andrews &
    Hemberg, 2019), 81 % and 93 % of pairs of such genes at p < .05 in two studies of blood thinned to 20 %, where the
    counts have 13 % and 6 %. Test differences on the counts.

    Parameters
    ----------
    adata
        Cells x genes, or the path of an .h5ad or .zarr, which is read in blocks; counts and genes are found as in
        `embed`. At least 20 cells.
    model
        As in `embed`.
    target_depth
        Counts a cell, in the model's genes: at least as many as the deepest cell has. Default: ten times that.
    genes
        Symbols or Ensembl ids of those to write. Default: all that were measured and are the model's.
    unit
        "log1p" of counts per 10,000; or "counts" at the target depth: no whole numbers, and never below those seen.
    threshold
        Leave out values below, and write a sparse matrix. Default: a dense one.
    through
        "latent": every gene is predicted from the cell's latent vector. "decoder": the decoder reads all genes of the
        cell, as in scFoundation, and takes many times as long. Default: "latent" where the model has one.
    out
        Write an .h5ad or .zarr whose X is the result, block by block, instead of a layer. A run that was stopped goes
        on when it is called again.
    key_added
        Name of the layer, of a column of ``var`` that says which genes were denoised, and of a record in ``uns``.
    layer, device, token_budget, min_genes
        As in `embed`.
    input_kind
        "auto" or "counts".
    max_gigabytes
        Refuse a larger result in memory.
    seed
        Of the cells that the model is calibrated on, and of the molecules that are held out.

    Returns
    -------
    ``adata`` itself, with the layer. Columns of genes that were not denoised are NaN, in a sparse layer empty; several
    columns of one gene have its value each. Cells without counts are NaN (empty). For a path: a new AnnData with obs,
    var and the result as X; with ``out``, without X.

    Raises
    ------
    ConfigError
        A target depth that a cell exceeds, or that is none; a result larger than ``max_gigabytes``; a file that exists
        or cannot be written; ``input_kind="log1p"``, as values that are taken as given are no counts.
    CountsError
        As in `embed`; fewer than 20 cells that can be read.
    GeneMatchError
        As in `embed`; a gene that the model does not know, or that was not measured.

    Warns
    -----
    UserWarning
        As in `embed`.
    """
    key, loaded = record_key(key_added), load(model)
    options = _Options(
        target_depth=target_depth, unit=unit, threshold=threshold, through=through, input_kind=input_kind, seed=seed
    ).checked(loaded)
    target = None if out is None else Path(out)
    if target is not None:
        require_new_file(target)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    asked = None if genes is None else np.array(list(dict.fromkeys(loaded.genes.places(genes).tolist())))
    in_layer = isinstance(adata, AnnData) and target is None
    with open_cells(adata) as cells:
        counts = MatchedCounts.find(cells, loaded.genes, layer=layer, input_kind=input_kind)
        totals, of_gene = _sums(counts)
        report = counts.require_of_read(min_genes=min_genes)
        places = _measured_places(loaded, counts.match.measured, asked)
        depth = _depth(totals, target_depth)
        shown = _Columns.of(cells, loaded, places) if in_layer else _Columns.alone(places)
        in_memory = MemoryMatrix(float(max_gigabytes))
        if target is None and threshold is None:
            in_memory.require(4 * cells.num_cells * shown.number)
        sample, around = _sample(counts, seed)
        fitted = Denoiser.fit(
            Predictor(
                inference=inference,
                genes=np.flatnonzero(counts.match.measured),
                target_depth=depth,
                through=options.way,
            ),
            sample,
            around=around,
            others=of_gene - np.asarray(sample.sum(axis=0), dtype=np.float64).ravel(),
            seed=seed,
        )
        record = {
            "model": loaded.name,
            "sha256": loaded.sha256,
            "options": {**options.as_dict(), "target_depth": depth, "matrix": counts.choice.matrix},
            "blend": fitted.blend.as_dict(),
            "genes": {"num_matched": report.num_matched_genes, "share_of_counts": report.share_of_counts or 0.0},
            "version": version("xtrimogene"),
        }
        sign = hashlib.sha256(totals.tobytes() + shown.genes.tobytes()).hexdigest()
        partial = None if target is None else PartialMatrix(target, record | {"cells": sign}, shown.number)
        _write(counts, fitted, shown, options, partial or in_memory, progress=progress)
        obs = cells.obs.copy()
    if unread := int((totals <= 1).sum()):
        warnings.warn(f"{unread:,} of {len(totals):,} cells have no counts to read; theirs are NaN.", stacklevel=2)
    if isinstance(adata, AnnData) and in_layer:
        adata.layers[key_added] = in_memory.whole()
        adata.var[key] = np.isin(np.arange(shown.number), shown.columns)
        adata.uns[key] = record
        return adata
    written = AnnData(obs=obs, var=_var(loaded, places), uns={key: record})
    if partial is None:
        written.X = in_memory.whole()
    else:
        partial.join(written)
    return written


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    target_depth: float | int | None
    unit: Unit
    threshold: float | int | None
    through: Through | None
    input_kind: InputKind
    seed: int

    def checked(self, model: PretrainedModel) -> "_Options":
        """Refuse what cannot be, and fill in which way this model predicts."""
        has_latent = model.config.latent_dim is not None
        through = self.through or ("latent" if has_latent else "decoder")
        for name, value, allowed in (("unit", self.unit, Unit), ("through", through, Through)):
            if value not in get_args(allowed):
                raise ConfigError(f"{name}={value!r} is not one of {', '.join(get_args(allowed))}.")
        if through == "latent" and not has_latent:
            raise ConfigError("through='latent' needs a model with a latent cell vector; set through='decoder'.")
        if self.input_kind == "log1p":
            raise ConfigError(
                "denoise weighs molecules, and input_kind='log1p' takes values as they are; give counts, or log1p of "
                "counts with input_kind='auto'."
            )
        depth, threshold = self.target_depth, self.threshold
        if depth is not None and not 1 < depth <= 1e12:
            raise ConfigError(f"target_depth={depth:g} is no number of counts that a cell has; give 20000, say.")
        if threshold is not None and not threshold > 0:
            raise ConfigError(f"threshold={threshold:g} has to be above 0; leave it out for a dense matrix.")
        return replace(self, through=through)

    @property
    def way(self) -> Through:
        assert self.through is not None
        return self.through

    def as_dict(self) -> dict[str, Any]:
        chosen = {"unit": self.unit, "through": self.way, "seed": self.seed}
        return chosen if self.threshold is None else {**chosen, "threshold": float(self.threshold)}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Columns:
    """Which columns of the result are written, of which genes they are, and how many columns there are in all."""

    columns: Int64[np.ndarray, " C"]
    genes: Int64[np.ndarray, " C"]
    number: int

    @classmethod
    def alone(cls, places: Int64[np.ndarray, " A"]) -> "_Columns":
        return cls(columns=np.arange(len(places)), genes=places, number=len(places))

    @classmethod
    def of(cls, cells: CellBlocks, model: PretrainedModel, places: Int64[np.ndarray, " A"]) -> "_Columns":
        """Find the columns of an AnnData that hold these genes."""
        names = {name: column.tolist() for name, column in cells.gene_columns("X").items()}
        target = model.genes.match(names).target
        columns = np.flatnonzero(np.isin(target, places))
        if not len(columns):
            raise GeneMatchError(
                "These genes are in raw and none is a column of the AnnData: give adata.raw.to_adata()."
            )
        return cls(columns=columns, genes=target[columns], number=len(target))


def _write(
    counts: MatchedCounts,
    fitted: Denoiser,
    shown: _Columns,
    options: _Options,
    sink: MemoryMatrix | PartialMatrix,
    *,
    progress: bool,
) -> None:
    rows = max(1, _BLOCK_BYTES // (4 * max(1, len(fitted.predictor.genes))))
    with progress_bar("Denoising cells", counts.cells.num_cells, shown=progress) as advance:
        for start, block in counts.blocks(max_cells=rows):
            if not sink.has(start):
                sink.put(start, _result(_whole(block), fitted, shown, options))
            advance(block.shape[0])


def _result(counts: csr_matrix, fitted: Denoiser, shown: _Columns, options: _Options) -> Block:
    readable = readable_cells(counts)
    values = fitted.expected_counts(counts[readable])[:, np.searchsorted(fitted.predictor.genes, shown.genes)]
    if options.unit == "log1p":
        values = np.log1p(values * np.float32(PER / fitted.predictor.target_depth))
    if options.threshold is None:
        whole = np.full((counts.shape[0], shown.number), np.nan, np.float32)
        whole[np.ix_(readable, shown.columns)] = values
        return whole
    row, place = np.nonzero(values >= options.threshold)
    at = (np.flatnonzero(readable)[row], shown.columns[place])
    return csr_matrix((values[row, place], at), shape=(counts.shape[0], shown.number))


def _whole(block: csr_matrix) -> csr_matrix:
    """Counts that were reversed from log1p are whole up to rounding."""
    return csr_matrix((np.rint(block.data), block.indices, block.indptr), shape=block.shape)


def _sums(counts: MatchedCounts) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, " G"]]:
    """Read all cells, and return the counts of each and those of each gene."""
    of_cell, of_gene = [], np.zeros(counts.match.num_genes)
    for _, block in counts.blocks():
        whole = _whole(block)
        of_cell.append(totals_of(whole))
        of_gene += np.asarray(whole.sum(axis=0), dtype=np.float64).ravel()
    return np.concatenate(of_cell), of_gene


def _sample(counts: MatchedCounts, seed: int) -> tuple[csr_matrix, csr_matrix | None]:
    """Return cells for the model to be calibrated on, and others to find neighbours among."""
    ranges = counts.cells.sample_rows(KEPT_CELLS)
    kept = vstack([_whole(counts.rows(start, stop)) for start, stop in ranges], format="csr")
    order = np.random.default_rng(seed).permutation(kept.shape[0])
    sample, around = np.sort(order[:FITTED_CELLS]), np.sort(order[FITTED_CELLS:])
    return kept[sample], kept[around] if len(around) else None


def _depth(totals: Float64[np.ndarray, " N"], target_depth: float | int | None) -> float:
    deepest = float(totals.max())
    if target_depth is None:
        return DEEPER * max(deepest, 2.0)
    if target_depth < deepest:
        row = int(totals.argmax())
        raise ConfigError(
            f"target_depth={target_depth:,.0f} is below the {deepest:,.0f} counts of cell row {row:,}; "
            "give at least as many as the deepest cell has, or leave such cells out."
        )
    return float(target_depth)


def _measured_places(
    model: PretrainedModel, measured: np.ndarray, asked: Int64[np.ndarray, " A"] | None
) -> Int64[np.ndarray, " A"]:
    if asked is None:
        return np.flatnonzero(measured)
    absent = [model.genes.symbols[place] for place in asked if not measured[place]]
    if absent:
        raise GeneMatchError(
            f"{', '.join(absent[:5])}{' and more' if len(absent) > 5 else ''}: not measured in these cells; leave them "
            "out. xtrimogene.get.expression predicts genes that were not measured."
        )
    return asked


def _var(model: PretrainedModel, places: Int64[np.ndarray, " A"]) -> pd.DataFrame:
    ids = [model.genes.ensembl_ids[place] for place in places]
    return pd.DataFrame({"ensembl_id": ids}, index=[model.genes.symbols[place] for place in places])
