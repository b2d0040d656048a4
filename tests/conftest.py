"""What all tests share: types checked at run time, one thread, markers, counts to work on."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook
from scipy.sparse import csr_matrix

if TYPE_CHECKING:
    from anndata import AnnData

    from xtrimogene.checkpoint import PretrainedModel

SHARED = Path(__file__).resolve().parents[2] / "shared"

os.environ["NUMBA_NUM_THREADS"] = "1"  # scanpy's first numba loop would give torch as many threads as there are cores
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read at the first import of triton, which scanpy brings about too
install_import_hook(["xtrimogene", "xtrimogene_kernels"], "beartype.beartype")  # before the first import of either
torch.set_num_threads(1)
hypothesis.settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {
        "shared": None if SHARED.is_dir() else f"needs the real data in {SHARED}",
        "gpu": None if torch.cuda.is_available() else "needs a CUDA device",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_setup() -> None:
    """Draw the same tensors and weights whichever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data beside the checkout; a test that uses it skips without it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real data in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def make_counts() -> Callable[..., csr_matrix]:
    """Return a builder of random counts: cells x genes, float32, canonical CSR."""

    def build(num_cells: int = 8, num_genes: int = 50, density: float = 0.2, seed: int = 0) -> csr_matrix:
        random = np.random.default_rng(seed)
        expressed = random.random((num_cells, num_genes)) < density
        return csr_matrix(np.where(expressed, random.geometric(0.4, expressed.shape), 0).astype(np.float32))

    return build


@pytest.fixture(scope="session")
def write_cells(make_counts: Callable[..., csr_matrix]) -> Callable[..., str]:
    """Return a writer of an .h5ad: cells x 6,000 human genes in some order, with donors and batches in obs."""
    import pandas as pd
    from anndata import AnnData

    from xtrimogene.data.gene_vocabulary import GeneVocabulary

    def write(path: Path, num_cells: int = 40, seed: int = 0, counts: csr_matrix | None = None) -> str:
        random = np.random.default_rng(seed)
        genes = random.permutation(len(GeneVocabulary.human()))[:6_000]
        if counts is None:
            counts = make_counts(num_cells, 6_000, 0.06, seed)
        obs = pd.DataFrame(
            {
                "donor": [f"donor {cell % 3}" for cell in range(num_cells)],
                "batch": [f"batch {cell % 2}" for cell in range(num_cells)],
            },
            index=[f"cell{cell}" for cell in range(num_cells)],
        )
        var = pd.DataFrame(index=[GeneVocabulary.human().symbols[gene] for gene in genes])
        AnnData(counts, obs=obs, var=var).write_h5ad(path)
        return str(path)

    return write


@pytest.fixture(scope="session")
def tiny_model() -> "PretrainedModel":
    """Return a model of 400 human genes with random weights, with all parts that a real one has."""
    from xtrimogene.checkpoint import PretrainedModel
    from xtrimogene.config import DecoderConfig, EncoderConfig, ModelConfig
    from xtrimogene.data.gene_vocabulary import GeneVocabulary
    from xtrimogene.model.xtrimogene import XTrimoGene

    human = GeneVocabulary.human()
    genes = GeneVocabulary(human.symbols[:400], human.ensembl_ids[:400])
    config = ModelConfig(
        num_genes=400,
        encoder=EncoderConfig(dim=16, num_layers=2, num_heads=2),
        decoder=DecoderConfig(dim=8, num_layers=1, num_heads=1, num_features=16),
        num_bins=10,
        latent_dim=12,
        pool="latent",
    )
    network = XTrimoGene(config).eval().requires_grad_(False)
    assert network.latent_head is not None
    network.latent_head.depth_direction.fill_(12**-0.5)
    return PretrainedModel(network, genes, {"name": "tiny"}, name="tiny")


@pytest.fixture(scope="session")
def tiny_folder(tiny_model: "PretrainedModel", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint folder of ``tiny_model``."""
    from xtrimogene.checkpoint import save

    return save(tiny_model, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def annotator(tiny_folder: Path, tiny_model: "PretrainedModel", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an annotator of three types, each with 40 genes of its own."""
    import pandas as pd
    from anndata import AnnData

    from xtrimogene.tl import fit_annotator

    random = np.random.default_rng(0)
    rate = np.full((3, 400), 0.1)
    for number in range(3):
        rate[number, 40 * number : 40 * number + 40] = 3
    labels = np.arange(90) % 3
    obs = pd.DataFrame({"cell_type": [f"type {label}" for label in labels]}, index=[f"cell{row}" for row in range(90)])
    var = pd.DataFrame(index=list(tiny_model.genes.symbols))
    reference = AnnData(csr_matrix(random.poisson(rate[labels]).astype(np.float32)), obs=obs, var=var)
    folder = tmp_path_factory.mktemp("annotators") / "types"
    return fit_annotator(
        reference, folder, label_key="cell_type", model=tiny_folder, baselines=False, progress=False, device="cpu"
    )


@pytest.fixture
def make_cells(tiny_model: "PretrainedModel", make_counts: Callable[..., csr_matrix]) -> Callable[..., "AnnData"]:
    """Return a builder of an AnnData with counts over the genes of ``tiny_model``, in another order."""
    import pandas as pd
    from anndata import AnnData

    def build(num_cells: int = 12, seed: int = 0, density: float = 0.2) -> AnnData:
        order = np.random.default_rng(seed).permutation(400)
        obs = pd.DataFrame(
            {"cell_type": pd.Categorical([f"type {cell % 3}" for cell in range(num_cells)])},
            index=[f"cell{cell}" for cell in range(num_cells)],
        )
        var = pd.DataFrame(index=[tiny_model.genes.symbols[gene] for gene in order])
        return AnnData(make_counts(num_cells, 400, density, seed), obs=obs, var=var)

    return build
