"""What all tests share: types checked at run time, one thread, markers, counts to work on."""

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook
from scipy.sparse import csr_matrix

SHARED = Path(__file__).resolve().parents[2] / "shared"

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
