"""The released scFoundation's numbers, through the public face: convert, load, embed, get."""

from pathlib import Path

import numpy as np
import pytest
from anndata import read_h5ad

import xtrimogene as xt
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.cli import main

pytestmark = pytest.mark.shared

# name in expected.npz: key of the checkpoint, file, options of tl.embed
CELLS = {
    "cell_all_t4": ("cell", "counts", {}),
    "cell_max_t4": ("cell", "counts", {"read_depth": "t4", "pool": "max"}),
    "cell_all_t4_subset": ("cell", "counts_subset", {"read_depth": "t4", "pool": "all"}),
    "cell_all_t4.5_prenormalized": ("cell", "counts", {"read_depth": "t4.5", "input_kind": "log1p"}),
    "rde_cell_all_f1": ("rde", "counts", {"read_depth": "f1", "pool": "all"}),
    "rde_cell_all_a5": ("rde", "counts", {"read_depth": "a5", "pool": "all"}),
}


@pytest.fixture(scope="module")
def released(shared: Path) -> Path:
    return shared / "reference" / "scfoundation_small"


@pytest.fixture(scope="module")
def expected(released: Path) -> dict[str, np.ndarray]:
    with np.load(released / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def models(released: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PretrainedModel]:
    """The three models of the file, each converted on the command line and loaded from its folder."""
    folder = tmp_path_factory.mktemp("released")
    for key in ("cell", "rde", "gene"):
        options = ["--genes", str(released / "genes.tsv"), "--key", key, "--out", str(folder / key)]
        with pytest.raises(SystemExit) as left:
            main(["convert", "scfoundation", str(released / "models.ckpt"), *options])
        assert left.value.code in (0, None)
    return {key: xt.load(folder / key) for key in ("cell", "rde", "gene")}


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_every_array_is_tested(expected: dict[str, np.ndarray]) -> None:
    assert set(expected) == {*CELLS, "gene_f1_first3", "gene_expression_f1"}


@pytest.mark.filterwarnings("ignore:X holds whole numbers.*taken as log1p")
@pytest.mark.parametrize("token_budget", [1, 10**9])
@pytest.mark.parametrize("name", CELLS)
def test_cell_embeddings(
    name: str,
    token_budget: int,
    models: dict[str, PretrainedModel],
    released: Path,
    expected: dict[str, np.ndarray],
) -> None:
    key, file, options = CELLS[name]
    found = xt.tl.embed(released / f"{file}.h5ad", models[key], token_budget=token_budget, **options)
    close(found.obsm["X_xtrimogene"], expected[name])


def test_cell_embeddings_of_some_cells_in_another_order(
    models: dict[str, PretrainedModel], released: Path, expected: dict[str, np.ndarray]
) -> None:
    rows = [5, 0, 3]
    cells = read_h5ad(released / "counts_subset.h5ad")[rows].copy()[:, ::-1].copy()
    close(xt.tl.embed(cells, models["cell"]).obsm["X_xtrimogene"], expected["cell_all_t4_subset"][rows])


@pytest.mark.slow
def test_gene_embeddings_and_expression(
    models: dict[str, PretrainedModel], released: Path, expected: dict[str, np.ndarray]
) -> None:
    cells = read_h5ad(released / "counts.h5ad")
    found = xt.get.gene_embeddings(cells[:3].copy(), models["gene"], read_depth="f1")
    close(found, expected["gene_f1_first3"])
    found = xt.get.expression(cells, models["gene"], read_depth="f1")
    close(found, expected["gene_expression_f1"])
    genes = ["TP53", "CD3D", "A1BG"]
    places = [models["gene"].genes.symbols.index(gene) for gene in genes]
    rows = [7, 2]
    found = xt.get.expression(cells[rows].copy(), models["gene"], genes=genes, read_depth="f1", token_budget=10**9)
    close(found, expected["gene_expression_f1"][rows][:, places])
