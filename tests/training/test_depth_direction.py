from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import sparse

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import ModelConfig
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.inference import Inference
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.depth_direction import (
    embed_at_rates,
    find_depth_direction,
    leading_direction,
    thinning_share,
)


@pytest.fixture
def model(tiny_genes: GeneVocabulary, tiny_config: Callable[[int], ModelConfig]) -> PretrainedModel:
    return PretrainedModel(XTrimoGene(tiny_config(250)).eval().requires_grad_(False), tiny_genes)


def cells_of(mean: float) -> CellsInMemory:
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(mean, (40, 250)).astype(np.float32))
    return CellsInMemory(counts, np.ones((1, 250), dtype=bool), np.zeros(40, dtype=np.int64), ())


def direction_of(model: PretrainedModel) -> torch.Tensor:
    assert model.network.latent_head is not None
    return model.network.latent_head.depth_direction


def test_the_direction_is_that_in_which_views_of_a_cell_differ() -> None:
    random = np.random.default_rng(0)
    planted = random.standard_normal(12)
    planted /= np.linalg.norm(planted)
    cells = 50.0 * random.standard_normal((30, 12))  # cells differ more, in all directions
    depth = np.array([0.0, -1.0, -2.0, -4.0])[:, None, None] * planted
    views = cells + depth + 0.1 * random.standard_normal((4, 30, 12))
    found = leading_direction(views)
    assert thinning_share(10.0 * views) == pytest.approx(thinning_share(views)) and thinning_share(views) < 0.01
    assert np.linalg.norm(found) == pytest.approx(1.0) and found @ planted > 0.999


def test_an_embedding_tells_less_of_read_depth_and_predictions_stay(model: PretrainedModel) -> None:
    cells, other = cells_of(1.0), cells_of(0.8).counts

    def moved() -> float:
        latent = embed_at_rates(Inference(model, device="cpu"), other, np.random.default_rng(1))
        return float(((latent - latent.mean(0)) ** 2).sum())

    before, predicted = moved(), Inference(model, device="cpu").expression_from_latent(other)
    thinning = find_depth_direction(model, cells, seed=0)
    assert thinning is not None
    measured = embed_at_rates(Inference(model, device="cpu"), cells.counts, np.random.default_rng((0, 4)))
    assert thinning_share(measured) == pytest.approx(thinning["left"], rel=1e-3)
    assert moved() < 0.7 * before
    along = Inference(model, device="cpu").cell_embeddings(other, pool="latent") @ direction_of(model).numpy()
    assert np.abs(along).max() < 1e-5
    np.testing.assert_array_equal(Inference(model, device="cpu").expression_from_latent(other), predicted)


def test_the_seed_decides(model: PretrainedModel) -> None:
    found = []
    for seed in (0, 0, 1):
        find_depth_direction(model, cells_of(1.0), seed=seed)
        found.append(direction_of(model).clone())
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert found[0] @ found[2] > 0.9


def test_cells_too_shallow_to_be_thinned_are_told(model: PretrainedModel) -> None:
    counts = sparse.csr_matrix(np.eye(3, 250, dtype=np.float32) * 2)
    cells = CellsInMemory(counts, np.ones((1, 250), dtype=bool), np.zeros(3, dtype=np.int64), ())
    with pytest.warns(UserWarning, match="thinned"):
        assert find_depth_direction(model, cells, seed=2) is None
    assert not direction_of(model).any()
