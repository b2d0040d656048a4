"""The blend is chosen right where the neighbours know more and where the model does."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.evaluation.baselines import highly_variable_genes, log_normalize
from xtrimogene.tasks.denoising.blend import MODEL_ALONE, NEIGHBORS_ALONE, Blend, choose_blend
from xtrimogene.tasks.denoising.molecules import log_loss, split_molecules
from xtrimogene.tasks.denoising.neighbors import Neighbors
from xtrimogene.tasks.denoising.shrinkage import shrink
from xtrimogene.tasks.denoising.smoothing import Smoothing

NUM_GENES = 120


def chosen(truth: np.ndarray, prior: np.ndarray, molecules: int) -> tuple[Blend, csr_matrix, csr_matrix, Neighbors]:
    generator = np.random.default_rng(0)
    counts = csr_matrix(generator.poisson(molecules * truth).astype(np.float32))
    seen, held_out = split_molecules(counts, 0.5, generator)
    neighbors = Neighbors.fit(seen)
    return choose_blend(seen, held_out, prior.astype(np.float32), neighbors), seen, held_out, neighbors


def told(blend: Blend, seen: csr_matrix, prior: np.ndarray, neighbors: Neighbors) -> np.ndarray:
    walk = neighbors.step(neighbors.counts, blend.smoothing.num_neighbors)
    around = csr_matrix(neighbors.reached(seen, blend.smoothing, walk) @ neighbors.counts)
    return blend.shares(seen, around, prior.astype(np.float32))


@pytest.fixture
def types() -> np.ndarray:
    """Shares of 200 cells of two types."""
    return np.random.default_rng(1).dirichlet(0.3 * np.ones(NUM_GENES), 2)[np.arange(200) % 2] + 1e-5


def test_neighbours_are_believed_where_the_model_knows_nothing(types: np.ndarray) -> None:
    prior = np.full(types.shape, 1 / NUM_GENES)
    blend, seen, held_out, neighbors = chosen(types, prior, 400)
    assert (blend.against_neighbors <= 0.3).all() and blend.smoothing.num_neighbors > 5
    shares = told(blend, seen, prior, neighbors)
    assert np.abs(shares / types - 1)[types > 0.01].mean() < 0.15
    assert log_loss(held_out, shares).mean() < log_loss(held_out, types).mean() + 0.02


def test_the_model_is_believed_where_neighbours_know_nothing() -> None:
    truth = np.random.default_rng(1).dirichlet(0.3 * np.ones(NUM_GENES), 200) + 1e-5  # each cell is its own kind
    blend, seen, held_out, neighbors = chosen(truth, truth, 60)
    assert (blend.against_neighbors == MODEL_ALONE).all() and (blend.against_cell >= 100).all()
    np.testing.assert_allclose(told(blend, seen, truth, neighbors), truth / truth.sum(axis=1)[:, None], rtol=0.1)


def test_a_blend_is_no_worse_than_either_where_both_know_something(types: np.ndarray) -> None:
    known = np.arange(NUM_GENES) < NUM_GENES // 2
    prior = np.where(known, types, types.mean(axis=0))  # the model tells the types apart by half of the genes
    blend, seen, held_out, neighbors = chosen(types, prior, 60)
    losses = {"blend": log_loss(held_out, told(blend, seen, prior, neighbors)).mean()}
    for name, strength in (("neighbors", NEIGHBORS_ALONE), ("model", MODEL_ALONE)):
        one = np.full(NUM_GENES, strength, dtype=np.float32)
        alone = Blend(smoothing=blend.smoothing, against_neighbors=one, against_cell=blend.against_cell)
        losses[name] = log_loss(held_out, told(alone, seen, prior, neighbors)).mean()
    assert losses["blend"] < min(losses["neighbors"], losses["model"])


def test_by_hand() -> None:
    counts, around = (csr_matrix(np.array([row], dtype=np.float32)) for row in ([3.0, 1.0], [10.0, 30.0]))
    prior = np.array([[0.5, 0.5]], dtype=np.float32)
    one = np.array([1.0, 1.0], dtype=np.float32)
    blend = Blend(smoothing=Smoothing(num_neighbors=5, num_steps=1), against_neighbors=10 * one, against_cell=2 * one)
    between = np.array([10 + 10, 30 + 10]) / (40 + 20)  # 1/3, 2/3
    shares = np.array([(3 + 2) / (4 + 2 / between[0]), (1 + 2) / (4 + 2 / between[1])])
    np.testing.assert_allclose(blend.shares(counts, around, prior)[0], shares / shares.sum(), rtol=1e-5)


def test_the_ends_are_the_model_and_the_neighbours() -> None:
    generator = np.random.default_rng(0)
    counts, around = (csr_matrix(1 + generator.poisson(4, (6, 9)).astype(np.float32)) for _ in range(2))
    around = csr_matrix(100 * around)
    prior = generator.dirichlet(np.ones(9), 6).astype(np.float32)
    cell = np.full(9, 3, dtype=np.float32)
    for strength, expected in ((MODEL_ALONE, prior), (NEIGHBORS_ALONE, around.toarray() / around.sum(axis=1))):
        blend = Blend(
            smoothing=Smoothing(num_neighbors=5, num_steps=1),
            against_neighbors=np.full(9, strength, dtype=np.float32),
            against_cell=cell,
        )
        np.testing.assert_allclose(
            blend.shares(counts, around, prior), shrink(counts, np.asarray(expected), cell), atol=2e-3
        )


def test_variable_genes_and_others_have_their_own_strengths() -> None:
    generator = np.random.default_rng(0)
    truth = generator.dirichlet(np.r_[np.full(2_000, 0.05), np.full(1_000, 5.0)], 2)[np.arange(60) % 2] + 1e-7
    counts = csr_matrix(generator.poisson(8_000 * truth).astype(np.float32))
    seen, held_out = split_molecules(counts, 0.5, generator)
    neighbors = Neighbors.fit(seen)
    prior = np.repeat(truth.mean(axis=0)[None], 60, axis=0).astype(np.float32)
    blend = choose_blend(seen, held_out, prior, neighbors)
    variable = np.isin(np.arange(3_000), highly_variable_genes(log_normalize(neighbors.counts)))
    assert 0 < variable.sum() < 3_000
    for strengths in (blend.against_neighbors, blend.against_cell):
        assert len(np.unique(strengths[variable])) == len(np.unique(strengths[~variable])) == 1
    assert blend.against_neighbors[variable][0] < blend.against_neighbors[~variable][0]
    assert len(blend.as_dict()["against_cell"]) == 2


def test_genes_of_which_no_molecule_is_held_out_are_left_to_the_model(types: np.ndarray) -> None:
    counts = csr_matrix(np.random.default_rng(0).poisson(400 * types).astype(np.float32))
    seen, held_out = split_molecules(counts, 0.5, np.random.default_rng(1))
    prior = np.full(types.shape, 1 / NUM_GENES, dtype=np.float32)
    blend = choose_blend(seen, csr_matrix(held_out.shape, dtype=np.float32), prior, Neighbors.fit(seen))
    assert (blend.against_neighbors == MODEL_ALONE).all()
