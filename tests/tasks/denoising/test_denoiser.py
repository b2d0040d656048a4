from collections.abc import Callable

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.data.read_depth import thin_counts
from xtrimogene.demo import sample_cells
from xtrimogene.errors import ConfigError, CountsError
from xtrimogene.inference import Inference
from xtrimogene.tasks.denoising import denoiser
from xtrimogene.tasks.denoising.blend import Blend, choose_blend
from xtrimogene.tasks.denoising.denoiser import Denoiser
from xtrimogene.tasks.denoising.molecules import log_loss, split_molecules
from xtrimogene.tasks.denoising.neighbors import Neighbors
from xtrimogene.tasks.denoising.predictor import Predictor

MakeCounts = Callable[..., csr_matrix]


@pytest.fixture
def inference(tiny_model: PretrainedModel) -> Inference:
    return Inference(tiny_model, device="cpu")


@pytest.mark.parametrize("through", ["latent", "decoder"])
def test_a_cell_is_denoised_alone_as_among_others(inference: Inference, make_counts: MakeCounts, through: str) -> None:
    counts = make_counts(25, 400)
    counts = csr_matrix(counts.multiply(np.arange(400)[None] >= 50), dtype=np.float32)
    fitted = Denoiser.fit(
        Predictor(inference=inference, genes=np.arange(50, 400), target_depth=1e4, through=through),  # type: ignore[arg-type]
        counts,
    )
    shares = fitted.shares(counts)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(fitted.shares(counts[[7]]), shares[[7]], atol=1e-6)
    expected = fitted.expected_counts(counts)
    np.testing.assert_allclose(expected.sum(axis=1), 1e4, rtol=1e-4)


def test_a_cell_deeper_than_the_target_is_refused(inference: Inference, make_counts: MakeCounts) -> None:
    counts = make_counts(25, 400)
    fitted = Denoiser.fit(Predictor(inference=inference, genes=np.arange(400), target_depth=100.0), counts)
    with pytest.raises(ConfigError, match="less than the"):
        fitted.expected_counts(counts)


@pytest.mark.parametrize("depth", [0.0, -1.0, 1e13])
def test_a_depth_that_no_cell_has(inference: Inference, depth: float) -> None:
    with pytest.raises(ConfigError, match="none that a cell has"):
        Predictor(inference=inference, genes=np.arange(400), target_depth=depth)


def test_too_few_cells(inference: Inference, make_counts: MakeCounts) -> None:
    with pytest.raises(CountsError, match="19 cells"):
        Denoiser.fit(Predictor(inference=inference, genes=np.arange(400), target_depth=1e4), make_counts(19, 400))


def test_a_cell_s_held_out_molecules_do_not_calibrate_what_is_expected_of_it() -> None:
    generator, order = np.random.default_rng(0), np.random.default_rng(1).permutation(40)
    values = generator.gamma(1.0, size=(40, 60)).astype(np.float32)
    seen, held_out, others = (csr_matrix(generator.poisson(3, (40, 60)).astype(np.float32)) for _ in range(3))
    first = np.isin(np.arange(40), order[:20])
    changed = csr_matrix(np.where(first[:, None], others.toarray(), held_out.toarray()))
    before, after = (denoiser._prior_of_half(values, seen, part, None, order) for part in (held_out, changed))
    np.testing.assert_array_equal(before[first], after[first])
    assert np.abs(before[~first] / after[~first] - 1).max() > 0.01


def test_neighbours_show_the_same_part_of_their_molecules_when_the_blend_is_chosen(
    inference: Inference, make_counts: MakeCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, chosen = make_counts(60, 400), []

    def choosing(seen: csr_matrix, held_out: csr_matrix, prior: np.ndarray, neighbors: Neighbors) -> Blend:
        chosen.append((seen, held_out, neighbors))
        return choose_blend(seen, held_out, prior, neighbors)

    monkeypatch.setattr(denoiser, "choose_blend", choosing)
    predictor = Predictor(inference=inference, genes=np.arange(400), target_depth=1e4)
    fitted = Denoiser.fit(predictor, counts[:25], around=counts[25:])
    [(seen, held_out, neighbors)] = chosen
    assert abs(seen + held_out - counts[:25]).nnz == 0
    assert neighbors.counts.shape[0] == fitted.neighbors.counts.shape[0] == 60
    for rows in (slice(0, 25), slice(25, 60)):
        share = neighbors.counts[rows].sum() / fitted.neighbors.counts[rows].sum()
        assert abs(share - denoiser.SEEN) < 0.05
    assert fitted.neighbors.counts.sum() == counts.sum()


@pytest.fixture(scope="module")
def blood() -> tuple[csr_matrix, np.ndarray]:
    cells = sample_cells()
    with open_cells(cells[::20].copy()) as source:
        matched = MatchedCounts.find(source, load("demo").genes)
        return matched.all(), matched.match.measured


def test_removed_molecules_of_blood_cells_are_told_better_than_by_their_mean(
    blood: tuple[csr_matrix, np.ndarray],
) -> None:
    counts, measured = blood
    seen, held_out = split_molecules(counts, 0.2, np.random.default_rng(0))
    genes = np.flatnonzero(measured)
    fitted = Denoiser.fit(
        Predictor(inference=Inference(load("demo"), device="cpu"), genes=genes, target_depth=2e4), seen
    )
    mean = np.asarray(seen.sum(axis=0)).ravel()[genes] + 0.1
    others = log_loss(held_out[:, genes], np.repeat(mean[None], len(mean) and seen.shape[0], axis=0))
    assert log_loss(held_out[:, genes], fitted.shares(seen)).mean() < others.mean() - 0.1


def test_a_larger_depth_is_predicted_with_more_genes_and_a_total_nearer_to_it(
    blood: tuple[csr_matrix, np.ndarray],
) -> None:
    counts, measured = blood
    cells = thin_counts(counts[:20], 0.3, np.random.default_rng(0))
    inference, genes = Inference(load("demo"), device="cpu"), np.flatnonzero(measured)
    expressed, totals = [], []
    for depth in (2.5, 3.0, 3.5, 4.0):
        values = inference.expression_from_latent(cells, genes=genes, read_depth=f"t{depth}")
        expected = np.expm1(np.maximum(values, 0)) / 1e4 * 10**depth  # counts at that depth
        expressed.append(float((expected >= 1).sum(axis=1).mean()))
        totals.append(float((expected.sum(axis=1) / 10**depth).mean()))
    assert expressed == sorted(expressed) and expressed[-1] > expressed[0]
    assert totals == sorted(totals, reverse=True)  # too many at low depth, as zeros weigh little in training
