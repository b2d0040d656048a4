import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtrimogene.data import block_readers
from xtrimogene.data.blocks import CellBlocks, open_cells
from xtrimogene.errors import FieldError, FileFormatError

FORMS: dict[str, Callable[[sp.csr_matrix], object]] = {
    "csr": lambda matrix: matrix,
    "csc": lambda matrix: matrix.tocsc(),
    "dense": lambda matrix: matrix.toarray(),
    "float64": lambda matrix: matrix.astype(np.float64),
    "integers": lambda matrix: matrix.astype(np.int64),
    "csr_array": lambda matrix: sp.csr_array(matrix),
    "csc_array": lambda matrix: sp.csc_array(matrix),
    "fortran": lambda matrix: np.asfortranarray(matrix.toarray()),
}


def counts(num_cells: int, num_genes: int, seed: int = 0) -> sp.csr_matrix:
    random = np.random.default_rng(seed)
    filled = random.random((num_cells, num_genes)) < random.random((num_cells, 1))  # some cells empty, some full
    return sp.csr_matrix(np.where(filled, random.integers(1, 50, filled.shape), 0).astype(np.float32))


def as_anndata(matrix: object) -> ad.AnnData:
    num_cells, num_genes = matrix.shape
    obs = pd.DataFrame({"label": pd.Categorical(np.arange(num_cells) % 3)}, index=[f"c{i}" for i in range(num_cells)])
    return ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(num_genes)]))


def write(adata: ad.AnnData, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr version 3 will shard by default
        adata.write_h5ad(path) if path.suffix == ".h5ad" else adata.write_zarr(path)
    return path


def all_blocks(cells: CellBlocks, matrix: str, max_nonzeros: int) -> sp.csr_matrix:
    ranges = list(cells.row_blocks(matrix, max_nonzeros))
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges)][: len(ranges)]
    assert ranges[-1][1] == cells.num_cells
    blocks = [cells.block(matrix, start, stop) for start, stop in ranges]
    for block in blocks:
        assert block.dtype == np.float32
        assert isinstance(block, sp.csr_matrix)
        assert block.has_canonical_format
        block.check_format(full_check=True)
    return sp.vstack(blocks, format="csr")


def assert_same(left: sp.csr_matrix, right: sp.csr_matrix) -> None:
    np.testing.assert_array_equal(left.toarray(), right.toarray())


@pytest.mark.parametrize(
    ("form", "suffix"),
    [(form, suffix) for suffix in (".memory", ".h5ad") for form in FORMS]
    + [(form, ".zarr") for form in ("csr", "csc", "dense")],
)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 300), st.integers(0, 9))
def test_blocks_one_below_the_other_are_the_matrix(
    tmp_path_factory: pytest.TempPathFactory,
    form: str,
    suffix: str,
    num_cells: int,
    num_genes: int,
    size: int,
    seed: int,
) -> None:
    matrix = counts(num_cells, num_genes, seed)
    source = as_anndata(FORMS[form](matrix))
    if suffix != ".memory":
        source = write(source, tmp_path_factory.mktemp("cells") / f"cells{suffix}")
    with open_cells(source) as cells:
        assert cells.matrices == ("X",)
        assert (cells.num_cells, cells.num_columns("X")) == matrix.shape
        assert_same(all_blocks(cells, "X", size), matrix)
        ranges = [(start, min(start + 1, num_cells)) for start in range(0, num_cells, 3)]
        for (start, stop), block in zip(ranges, cells.read_blocks("X", ranges), strict=True):
            assert_same(block, matrix[start:stop])


@pytest.mark.parametrize("suffix", [".memory", ".h5ad"])
def test_csc_in_many_small_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(block_readers, "SLICE", 7)
    monkeypatch.setattr(block_readers, "CSC_WINDOW", 50)
    matrix = counts(60, 25)
    source = as_anndata(matrix.tocsc())
    with open_cells(source if suffix == ".memory" else write(source, tmp_path / "cells.h5ad")) as cells:
        assert_same(all_blocks(cells, "X", 20), matrix)
        assert_same(cells.block("X", 3, 50), matrix[3:50])  # more than a window holds
        ranges = [(0, 5), (20, 31), (55, 60)]
        together = sp.vstack(list(cells.read_blocks("X", ranges)))
        assert_same(together, sp.vstack([matrix[start:stop] for start, stop in ranges]))
    for place, row in ((0, 59), (-1, 0)):  # indices that change after they were counted
        changing = as_anndata(matrix.tocsc())
        with open_cells(changing) as cells, pytest.raises(FileFormatError, match="changed while"):
            for start, stop in cells.row_blocks("X", 20):
                changing.X.indices[place] = row
                cells.block("X", start, stop)
    monkeypatch.setattr(block_readers, "MAX_CSC_PASSES", 2)
    with open_cells(source) as cells, pytest.raises(FileFormatError, match="tocsr"):
        cells.block("X", 0, 1)


def test_layers_raw_and_their_genes(tmp_path: Path) -> None:
    matrix, full = counts(12, 5), counts(12, 9, seed=1)
    source = as_anndata(full)
    source.var["gene_ids"] = [f"ENSG{i}" for i in range(9)]
    source.raw = source
    source = source[:, :5].copy()
    source.X = np.zeros((12, 5), np.float32)
    source.layers["counts"] = matrix
    source.var["feature_name"] = pd.Categorical(["a", "b", None, "b", "a"])
    source.var["length"] = np.arange(5)
    for given_source in (source, write(source, tmp_path / "cells.h5ad"), write(source, tmp_path / "cells.zarr")):
        with open_cells(given_source) as cells:
            assert cells.matrices == ("X", "layers/counts", "raw/X")
            assert (cells.num_columns("X"), cells.num_columns("raw/X")) == (5, 9)
            assert_same(all_blocks(cells, "layers/counts", 10), matrix)
            assert_same(all_blocks(cells, "raw/X", 10), full)
            genes = cells.gene_columns("layers/counts")
            assert list(genes) == ["var_names", "gene_ids", "feature_name"]
            assert list(genes["feature_name"]) == ["a", "b", "", "b", "a"]
            assert list(cells.gene_columns("raw/X")["gene_ids"]) == [f"ENSG{i}" for i in range(9)]
            assert list(cells.obs["label"].astype(int)) == [i % 3 for i in range(12)]
            assert list(cells.obs_names) == [f"c{i}" for i in range(12)]
            with pytest.raises(FieldError, match="layers/none.*X, layers/counts, raw/X"):
                cells.block("layers/none", 0, 1)


def test_no_x(tmp_path: Path) -> None:
    source = as_anndata(counts(4, 3))
    source.layers["counts"] = source.X
    source.X = None
    for given_source in (source, write(source, tmp_path / "cells.h5ad"), write(source, tmp_path / "cells.zarr")):
        with open_cells(given_source) as cells:
            assert cells.matrices == ("layers/counts",)


def test_the_anndata_never_changes() -> None:
    messy = sp.csr_matrix((np.float32([1, 2, 3, 4]), [2, 0, 1, 1], [0, 2, 4]), shape=(2, 3))  # unsorted, repeated
    source = as_anndata(messy)
    with open_cells(source) as cells:
        block = cells.block("X", 0, 2)
        np.testing.assert_array_equal(block.toarray(), [[2, 0, 1], [0, 7, 0]])
        block.data[:] = -1
    assert list(source.X.data) == [1, 2, 3, 4]
    assert list(source.X.indices) == [2, 0, 1, 1]


def test_views_and_backed(tmp_path: Path) -> None:
    matrix = counts(30, 20)
    source = as_anndata(matrix)
    rows, columns = np.arange(25, 3, -2), [1, 5, 0]
    with open_cells(source[rows, columns]) as cells:
        assert_same(all_blocks(cells, "X", 9), matrix[rows][:, columns])
    source.raw = source
    backed = ad.read_h5ad(write(source, tmp_path / "cells.h5ad"), backed="r")
    with open_cells(backed) as cells:
        assert cells.matrices == ("X", "raw/X")
        assert_same(all_blocks(cells, "X", 9), matrix)
        assert_same(all_blocks(cells, "raw/X", 9), matrix)
    assert backed.file.is_open
    with pytest.raises(FileFormatError, match="to_memory"):
        open_cells(backed[:5])
    backed.file.close()


def test_sample_is_evenly_spaced() -> None:
    matrix = sp.csr_matrix(np.arange(1, 1001, dtype=np.float32)[:, None])
    with open_cells(as_anndata(matrix)) as cells:
        ranges = cells.sample_rows(100)
        assert len(ranges) == 20 and sum(stop - start for start, stop in ranges) == 100
        assert ranges[0][0] == 0 and ranges[-1][1] > 950
        sample = cells.sample_block("X", 100).toarray().ravel()
        np.testing.assert_array_equal(sample, np.concatenate([np.arange(start, stop) + 1 for start, stop in ranges]))
        assert cells.sample_rows(1_000) == [(0, 1_000)]


def test_encodings_before_anndata_07(tmp_path: Path) -> None:
    matrix = counts(6, 4)
    with h5py.File(tmp_path / "old.h5ad", "w") as file:
        for name, form in (("X", matrix), ("raw.X", matrix.tocsc())):
            group = file.create_group(name)
            group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = form.format, form.shape
            for part in ("data", "indices", "indptr"):
                group[part] = getattr(form, part)
        file["obs"] = np.array([(f"c{i}".encode(), i) for i in range(6)], dtype=[("index", "S4"), ("n", "i4")])
        text = h5py.string_dtype()
        file["var"] = np.array([(f"g{i}", f"id{i}") for i in range(4)], dtype=[("index", text), ("gene_ids", text)])
        file["raw.var"] = file["var"][()]
    with open_cells(tmp_path / "old.h5ad") as cells:
        assert cells.matrices == ("X", "raw/X")
        assert_same(all_blocks(cells, "X", 5), matrix)
        assert_same(all_blocks(cells, "raw/X", 5), matrix)
        assert list(cells.gene_columns("X")["gene_ids"]) == ["id0", "id1", "id2", "id3"]
        assert list(cells.obs_names) == [f"c{i}" for i in range(6)]
        assert list(cells.obs["n"]) == list(range(6))


def test_dataframe_of_anndata_07(tmp_path: Path) -> None:
    path = write(as_anndata(counts(6, 4)), tmp_path / "cells.h5ad")
    with h5py.File(path, "r+") as file:
        del file["var"]
        var = file.create_group("var")
        var.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0", "_index": "names"})
        var.attrs["column-order"] = np.array(["gene_ids"], dtype=object)
        var["names"] = [f"g{i}" for i in range(4)]
        var["gene_ids"] = np.array([0, 1, 1, 0], np.int8)
        var["__categories/gene_ids"] = ["E0", "E1"]
        var["gene_ids"].attrs["categories"] = var["__categories/gene_ids"].ref
    with open_cells(path) as cells:
        assert list(cells.gene_columns("X")["gene_ids"]) == ["E0", "E1", "E1", "E0"]


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        ("indptr", lambda old: np.where(np.arange(len(old)) == 3, 10**9, old), "bad indptr"),
        ("indptr", lambda old: np.where(np.arange(len(old)) == 3, -5, old), "bad indptr"),
        ("indptr", lambda old: old + 1, "bad indptr"),
        ("indptr", lambda old: old[:-2], "bad indptr"),
        ("indptr", lambda old: np.append(old[:-1], old[-1] + 100), "bad indptr"),
        ("indptr", lambda old: old.astype(np.float32), "bad indptr"),
        ("indices", lambda old: np.where(np.arange(len(old)) == 5, 10**8, old), "bad index"),
        ("indices", lambda old: np.where(np.arange(len(old)) == 5, -1, old), "bad index"),
        ("indices", lambda old: old[:-3], "indices"),
        ("indices", lambda old: old.astype(np.float64), "indices"),
        ("data", lambda old: np.array([b"x"] * len(old)), "numbers are needed"),
        ("data", lambda old: old.astype(np.complex64), "numbers are needed"),
    ],
)
def test_bad_structure_is_refused_before_scipy(
    tmp_path: Path, form: str, part: str, values: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    path = write(as_anndata(FORMS[form](counts(20, 10))), tmp_path / "cells.h5ad")
    with h5py.File(path, "r+") as file:
        changed = values(file["X"][part][()])
        del file["X"][part]
        file["X"][part] = changed
    with open_cells(path) as cells, pytest.raises(FileFormatError, match=said):
        all_blocks(cells, "X", 30)


def test_bad_structure_in_memory() -> None:
    for part, value, said in (
        ("indptr", 10**6, "bad indptr"),
        ("indices", 10**6, "bad index"),
        ("indices", -1, "bad index"),
    ):
        source = as_anndata(counts(20, 10))
        getattr(source.X, part)[4] = value
        with open_cells(source) as cells, pytest.raises(FileFormatError, match=said):
            all_blocks(cells, "X", 30)


def test_a_row_longer_than_the_genes_is_refused() -> None:
    source = as_anndata(sp.csr_matrix((1, 3), dtype=np.float32))
    source.X.data, source.X.indices = np.ones(100, np.float32), np.zeros(100, np.int32)
    source.X.indptr[1] = 100
    with open_cells(source) as cells, pytest.raises(FileFormatError, match="100 values in cell row 0"):
        cells.block("X", 0, 1)


def test_shapes_that_disagree(tmp_path: Path) -> None:
    path = write(as_anndata(counts(20, 10)), tmp_path / "cells.h5ad")
    with h5py.File(path, "r+") as file:
        file["X"].attrs["shape"] = np.array([20, 10**15])
    with open_cells(path) as cells, pytest.raises(FileFormatError, match="20 cells in obs and 10 genes in var"):
        cells.block("X", 0, 1)


def test_damaged_chunks_and_columns(tmp_path: Path) -> None:
    adata = as_anndata(counts(200, 50))
    adata.write_h5ad(tmp_path / "cells.h5ad", compression="gzip")
    with h5py.File(tmp_path / "cells.h5ad") as file:
        chunk = file["X/data"].id.get_chunk_info(0)
    with (tmp_path / "cells.h5ad").open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(chunk.size))
    with open_cells(tmp_path / "cells.h5ad") as cells, pytest.raises(FileFormatError, match="cannot be decoded"):
        all_blocks(cells, "X", 1_000)
    store = write(adata, tmp_path / "cells.zarr")
    chunk_file = next(path for path in (store / "X" / "data").rglob("*") if path.is_file() and "z" not in path.name)
    chunk_file.write_bytes(b"not a chunk")
    with open_cells(store) as cells, pytest.raises(FileFormatError, match="cannot be decoded"):
        all_blocks(cells, "X", 1_000)
    path = write(adata, tmp_path / "codes.h5ad")
    with h5py.File(path, "r+") as file:
        file["obs/label/codes"][0] = 99
    with open_cells(path) as cells, pytest.raises(FileFormatError, match="obs cannot be read"):
        _ = cells.obs


def test_what_is_no_cells(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="not a list"):
        open_cells([1, 2])  # type: ignore[arg-type]
    path = write(as_anndata(counts(4, 3)), tmp_path / "cells.h5ad")
    with h5py.File(path, "r+") as file:
        file["X"].attrs["encoding-type"] = "awkward-array"
    with open_cells(path) as cells, pytest.raises(FileFormatError, match="awkward-array"):
        cells.block("X", 0, 1)


@pytest.mark.shared
def test_real_files_read_as_anndata_reads_them(shared: Path) -> None:
    for path in sorted((shared / "data").glob("*.h5ad")):
        expected = ad.read_h5ad(path)
        with open_cells(path) as cells:
            blocks = [cells.block("X", *rows) for rows in cells.row_blocks("X", 300_000)]
            pd.testing.assert_frame_equal(cells.obs, expected.obs, check_column_type=False)
            assert list(cells.gene_columns("X")["var_names"]) == list(expected.var_names)
        assert (sp.vstack(blocks, format="csr") != expected.X).nnz == 0


def test_an_encoding_that_nobody_knows_is_told_in_a_sentence(write_cells: Callable[..., str], tmp_path: Path) -> None:
    path = write_cells(tmp_path / "cells.h5ad")
    with h5py.File(path, "r+") as file:
        file["obs/donor/categories"].attrs["encoding-type"] = "String-array"
    with open_cells(path) as cells, pytest.raises(FileFormatError, match="obs cannot be read"):
        _ = cells.obs
