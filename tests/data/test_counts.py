import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.data.blocks import open_cells
from xtrimogene.data.counts import CountsChoice, find_counts, to_counts
from xtrimogene.errors import ConfigError, CountsError, FieldError

LOG2 = float(np.log(2))


def counts(num_cells: int = 40, num_genes: int = 60, seed: int = 0) -> sp.csr_matrix:
    random = np.random.default_rng(seed)
    values = np.where(random.random((num_cells, num_genes)) < 0.4, random.geometric(0.1, (num_cells, num_genes)), 0)
    values[np.arange(num_cells), np.arange(num_cells) % num_genes] = 1  # the smallest count of each cell
    return sp.csr_matrix(values.astype(np.float32))


def log1p(matrix: sp.csr_matrix, total: float | None, dtype: str = "f4", base: float = 1.0) -> sp.csr_matrix:
    """Scale each cell to a total (None: the median) and take logarithms, all in one dtype as scanpy does."""
    matrix = matrix.astype(dtype)
    sums = np.asarray(matrix.sum(1)).ravel().astype(dtype)
    target = np.median(sums) if total is None else total
    scale = np.repeat((sums / np.asarray(target, dtype)).astype(dtype), np.diff(matrix.indptr))
    matrix.data = (np.log1p(matrix.data / scale) / np.asarray(base, dtype)).astype(dtype)
    return matrix


def as_anndata(matrix: object) -> ad.AnnData:
    num_cells, num_genes = matrix.shape
    obs, var = (
        pd.DataFrame(index=[f"{axis}{i}" for i in range(n)]) for axis, n in (("c", num_cells), ("g", num_genes))
    )
    return ad.AnnData(matrix, obs=obs, var=var)


def find(adata: ad.AnnData, **options: str) -> CountsChoice:
    with open_cells(adata) as cells:
        return find_counts(cells, **options)


def read(adata: ad.AnnData, max_nonzeros: int = 100, **options: str) -> tuple[CountsChoice, sp.csr_matrix]:
    with open_cells(adata) as cells:
        choice = find_counts(cells, **options)
        blocks = [
            to_counts(cells.block(choice.matrix, start, stop), choice, start)
            for start, stop in cells.row_blocks(choice.matrix, max_nonzeros)
        ]
    return choice, sp.vstack(blocks, format="csr")


def refusal(adata: ad.AnnData, **options: str) -> str:
    with pytest.raises(CountsError) as caught:
        find(adata, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u2"])
def test_counts_are_counts(dtype: str) -> None:
    choice, matrix = read(as_anndata(counts().astype(dtype)))
    assert (choice.matrix, choice.input_kind, choice.log_total) == ("X", "counts", None)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix.toarray(), counts().toarray())


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("total", [1e4, None, 1e6])
def test_log1p_is_reversed_exactly(total: float | None, dtype: str) -> None:
    choice, matrix = read(as_anndata(log1p(counts(), total, dtype)))
    expected = np.median(np.asarray(counts().sum(1))) if total is None else total
    assert choice.input_kind == "log1p"
    assert choice.log_total == pytest.approx(expected, rel=1e-4)
    np.testing.assert_array_equal(matrix.toarray(), counts().toarray())


@given(
    st.lists(st.integers(1, 3_000_000), min_size=1, max_size=200),
    st.floats(10, 1e7),
    st.sampled_from(["f4", "f8"]),
    st.booleans(),
)
def test_log1p_of_any_cell_is_reversed(values: list[int], total: float, dtype: str, deep: bool) -> None:
    limit = 90_000 if deep else 600
    cell = sp.csr_matrix(np.float32([[1, *(value % limit + 1 for value in values)]]))
    choice = CountsChoice(matrix="X", input_kind="log1p", reason="")
    reversed_cell = to_counts(log1p(cell, total, dtype), choice)
    np.testing.assert_array_equal(reversed_cell.toarray(), cell.toarray())


def test_a_cell_that_float32_has_rounded_to_no_proof_is_refused() -> None:
    cell, choice = sp.csr_matrix(np.float32([[1, 1e5, 1e5]])), CountsChoice(matrix="X", input_kind="log1p", reason="")
    with pytest.raises(CountsError, match="cell row 0 is not: no multiples of its smallest value"):
        to_counts(log1p(cell, 1e7), choice)


def test_log1p_of_a_part_of_the_genes_and_of_plain_counts() -> None:
    matrix = counts().tolil()
    matrix[:, 0] = 1  # the smallest count of each cell stays
    matrix = sp.csr_matrix(matrix, dtype=np.float32)
    choice, part = read(as_anndata(log1p(matrix, 1e4)[:, :30].tocsr()))
    assert (choice.input_kind, choice.log_total) == ("log1p", None)
    np.testing.assert_array_equal(part.toarray(), matrix[:, :30].toarray())
    choice, matrix = read(as_anndata(counts().log1p()))
    assert choice.input_kind == "log1p"
    np.testing.assert_array_equal(matrix.toarray(), counts().toarray())


@pytest.mark.shared
def test_every_real_file_holds_counts_and_comes_back_from_log1p(shared: Path) -> None:
    for path in sorted((shared / "data").glob("*.h5ad")):
        with open_cells(path) as cells:
            if path.stem == "pollen":
                with pytest.raises(CountsError, match="looks like TPM/CPM, not counts: every cell sums to 1e6"):
                    find_counts(cells)
                assert find_counts(cells, kind="bulk").input_kind == "bulk"
                tpm = cells.block("X", 0, cells.num_cells)
                assert "looks like log1p of values that sum to 1,000,000" in refusal(as_anndata(tpm.log1p()))
                continue
            choice = find_counts(cells)
            assert (choice.matrix, choice.input_kind) == ("X", "counts"), path
            rows = min(cells.num_cells, 200)
            original = to_counts(cells.block("X", 0, rows), choice)
        for total, dtype in ((1e4, "f4"), (None, "f4"), (1e6, "f4"), (1e4, "f8"), (None, "f8"), (1e6, "f8")):
            choice, matrix = read(as_anndata(log1p(original, total, dtype)), max_nonzeros=100_000)
            assert choice.input_kind == "log1p", (path, total, dtype)
            assert (matrix != original).nnz == 0, (path, total, dtype)


def test_scanpy_normalization_is_reversed() -> None:
    import scanpy as sc

    adata = as_anndata(counts())
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    choice, matrix = read(adata)
    assert choice.input_kind == "log1p"
    np.testing.assert_array_equal(matrix.toarray(), counts().toarray())


def test_order_of_the_candidates() -> None:
    scaled = np.random.default_rng(0).normal(size=(40, 60)).astype(np.float32)
    adata = as_anndata(scaled)
    adata.layers["spliced"] = counts()
    message = refusal(adata)
    assert "negative value" in message and "'spliced'" not in message and "spliced" in message
    assert find(adata, layer="spliced").matrix == "layers/spliced"

    adata.raw = as_anndata(log1p(counts(), 1e4))
    choice = find(adata)
    assert (choice.matrix, choice.input_kind) == ("raw/X", "log1p")
    assert "X holds a negative value" in choice.reason
    assert find(adata, layer="raw").matrix == "raw/X"

    adata.layers["Counts"] = counts()
    assert find(adata).matrix == "layers/Counts"
    adata.X = log1p(counts(), 1e4)
    assert find(adata).matrix == "layers/Counts"
    assert find(adata, layer="X").input_kind == "log1p"
    adata.X = counts()
    assert find(adata).matrix == "X"


def test_raw_with_more_genes_is_preferred() -> None:
    adata = as_anndata(counts())
    adata.raw = adata
    part = adata[:, :50].copy()
    choice = find(part)
    assert choice.matrix == "raw/X"
    assert "60 genes where X has 50" in choice.reason
    part.X = log1p(counts(), 1e4)[:, :50].tocsr()
    assert (find(part).matrix, find(part).input_kind) == ("raw/X", "counts")
    part.raw = as_anndata(log1p(counts(), 1e4))
    assert (find(part).matrix, find(part).input_kind) == ("raw/X", "log1p")
    part.X = counts()[:, :50].tocsr()  # scanpy's recipe: counts of the selected genes, log1p of all in raw
    assert (find(part).matrix, find(part).input_kind) == ("raw/X", "log1p")
    assert (find(part, input_kind="counts").matrix, find(part, layer="X").matrix) == ("X", "X")
    part.raw = as_anndata(counts() * 0.37)
    assert find(part).matrix == "X"


def changed(row: int, value: float) -> sp.csr_matrix:
    matrix = counts()
    matrix.data[matrix.indptr[row]] = value
    return matrix


@pytest.mark.parametrize("options", [{}, {"input_kind": "counts"}, {"input_kind": "log1p"}, {"kind": "bulk"}])
@pytest.mark.parametrize(
    ("value", "said"),
    [(-1.0, "a negative value"), (np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite"), (3e38, "impossible")],
)
def test_never_allowed(options: dict[str, str], value: float, said: str) -> None:
    message = refusal(as_anndata(changed(17, value)), **options)
    assert said in message and "cell row 17" in message
    for kind in ("counts", "log1p", "values", "bulk"):
        choice = CountsChoice(matrix="X", input_kind=kind, reason="")
        with pytest.raises(CountsError, match="cell row 1,017") as caught:
            to_counts(changed(17, value), choice, 1_000)
        assert said in str(caught.value)


def test_float64_beyond_float32_is_infinite() -> None:
    adata = as_anndata(counts().astype(np.float64))
    adata.X.data[3] = 1e300
    assert "infinite" in refusal(adata)


def test_what_is_neither_is_named() -> None:
    random = np.random.default_rng(0)
    positive = random.gamma(1.0, 2.0, (40, 60)).astype(np.float32)
    assert "neither counts nor log1p of counts" in refusal(as_anndata(positive))
    assert "np.rint" in refusal(as_anndata(counts() * 0.7 + sp.csr_matrix(positive)))
    per_cell = positive / positive.sum(1, keepdims=True)
    assert "looks like TPM/CPM" in refusal(as_anndata(per_cell * np.float32(1e6)))
    assert "looks scaled to 10,000 per cell" in refusal(as_anndata(per_cell * np.float32(1e4)))
    normalized = log1p(counts(), 1e4).expm1()
    assert "looks scaled to 10,000 per cell and not log-transformed" in refusal(as_anndata(normalized))
    assert "no multiples of a count" in refusal(as_anndata(np.log1p(per_cell * np.float32(1e4))))
    scaled = log1p(counts(), 1e4).toarray()
    scaled = (scaled - scaled.mean(0)) / scaled.std(0)
    assert "scaled or corrected" in refusal(as_anndata(scaled))
    wide = 1 + positive  # denoised: one tiny value makes each ratio larger than float32 can tell from a whole number
    wide[:, 7] = 1e-6
    assert "neither" in refusal(as_anndata(np.log1p(wide).astype(np.float32)))


def test_log2_is_refused_with_the_remedy() -> None:
    matrix = log1p(counts(), 1e4, "f4", base=LOG2)
    message = refusal(as_anndata(matrix))
    assert "log2" in message and "np.log(2)" in message
    choice, reversed_matrix = read(as_anndata(matrix * np.float32(LOG2)))
    assert choice.input_kind == "log1p"
    np.testing.assert_array_equal(reversed_matrix.toarray(), counts().toarray())
    assert "np.log(10)" in refusal(as_anndata(log1p(counts(), 1e4, "f4", base=float(np.log(10)))))


def test_input_kind_counts() -> None:
    assert find(as_anndata(counts()), input_kind="counts").input_kind == "counts"
    message = refusal(as_anndata(log1p(counts(), 1e4)), input_kind="counts")
    assert "looks like log1p of counts" in message and 'input_kind="auto"' in message


def test_input_kind_log1p_takes_values_as_given() -> None:
    matrix = sp.csr_matrix(np.random.default_rng(0).gamma(1.0, 2.0, (40, 60)).astype(np.float32))
    choice, values = read(as_anndata(matrix), input_kind="log1p")
    assert choice.input_kind == "values"
    np.testing.assert_array_equal(values.toarray(), matrix.toarray())
    with pytest.warns(UserWarning, match="which are counts; taken as log1p"):
        choice, values = read(as_anndata(counts()), input_kind="log1p")
    np.testing.assert_array_equal(values.toarray(), counts().toarray())
    with pytest.warns(UserWarning, match="too large"):
        assert find(as_anndata(matrix * np.float32(100)), input_kind="log1p").input_kind == "values"


def test_bulk() -> None:
    tpm = np.random.default_rng(0).gamma(0.3, 2.0, (6, 500))
    tpm = (tpm / tpm.sum(1, keepdims=True) * 1e6).astype(np.float32)
    choice, values = read(as_anndata(tpm), kind="bulk")
    assert choice.input_kind == "bulk"
    np.testing.assert_array_equal(values.toarray(), tpm)
    assert find(as_anndata(counts()), kind="bulk").input_kind == "bulk"
    assert find(as_anndata(np.float32([[0.5, 1.25, 0.0]])), kind="bulk").input_kind == "bulk"
    assert "logarithms" in refusal(as_anndata(np.log1p(tpm)), kind="bulk")
    assert "logarithms" in refusal(as_anndata(np.log2(1 + tpm)), kind="bulk")
    fpkm = tpm * np.linspace(0.5, 2, 6, dtype=np.float32)[:, None]  # no common total
    assert find(as_anndata(fpkm), kind="bulk").input_kind == "bulk"
    assert "logarithms" in refusal(as_anndata(np.log2(1 + fpkm)), kind="bulk")


def test_every_block_is_checked_again() -> None:
    choice = CountsChoice(matrix="layers/counts", input_kind="counts", reason="")
    with pytest.raises(CountsError, match=r"layers/counts holds 2.5 in cell row 507"):
        to_counts(changed(7, 2.5), choice, 500)
    matrix = log1p(counts(), 1e4)
    matrix.data[matrix.indptr[9] + 1] *= np.float32(1.1)
    with pytest.raises(CountsError, match=r"cell row 509"):
        to_counts(matrix, CountsChoice(matrix="X", input_kind="log1p", reason=""), 500)


def test_a_bad_cell_outside_the_sample_is_found_in_its_block() -> None:
    matrix = sp.vstack(
        [counts(seed=seed) for seed in range(100)], format="csr"
    )  # 4,000 cells, every second one sampled
    bad_row = 199
    matrix.data[matrix.indptr[bad_row]] = 0.5
    with pytest.raises(CountsError, match="cell row 199"):
        read(as_anndata(matrix))


def test_the_given_block_stays_as_it_is() -> None:
    matrix = counts()
    matrix.data[5] = 0.0
    before = matrix.copy()
    result = to_counts(matrix, CountsChoice(matrix="X", input_kind="counts", reason=""))
    assert result.nnz == matrix.nnz - 1
    np.testing.assert_array_equal(matrix.data, before.data)
    logged = log1p(counts(), 1e4)
    before = logged.copy()
    to_counts(logged, CountsChoice(matrix="X", input_kind="log1p", reason=""))
    np.testing.assert_array_equal(logged.data, before.data)


def test_nothing_to_read() -> None:
    for shape in ((0, 5), (5, 0)):
        assert "is empty" in refusal(as_anndata(sp.csr_matrix(shape, dtype=np.float32)))
    zeros = as_anndata(sp.csr_matrix((5, 4), dtype=np.float32))
    choice, matrix = read(zeros)
    assert (choice.input_kind, matrix.nnz) == ("counts", 0)
    zeros.layers["counts"] = counts(5, 4)
    assert find(zeros).matrix == "layers/counts"
    nothing = as_anndata(counts())
    nothing.X = None
    assert "name a layer" in refusal(nothing)
    nothing.layers["mine"] = counts()
    assert find(nothing, layer="mine").matrix == "layers/mine"


def test_wrong_options() -> None:
    with pytest.raises(FieldError, match="no layer 'none'; it has X"):
        find(as_anndata(counts()), layer="none")


def test_empty_cells_and_single_values() -> None:
    matrix = counts().tolil()
    matrix[3] = 0
    matrix[39] = 0
    matrix = sp.csr_matrix(matrix, dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # 0 / 0 of the empty cells, made by this test
        logged = log1p(matrix, 1e4)
    choice, result = read(as_anndata(logged))
    assert choice.log_total == pytest.approx(1e4, rel=1e-4)
    np.testing.assert_array_equal(result.toarray(), matrix.toarray())


def test_unknown_kinds() -> None:
    with open_cells(as_anndata(counts())) as cells:
        inner = getattr(find_counts, "__wrapped__", find_counts)  # past the type checker of the tests
        with pytest.raises(ConfigError, match="input_kind='raw'"):
            inner(cells, input_kind="raw")
        with pytest.raises(ConfigError, match="kind='tissue'"):
            inner(cells, kind="tissue")
