"""Counts in, arrays out: the same numbers whatever the token budget, NaN where a cell cannot be read."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import DecoderConfig, EncoderConfig, EncoderPrecision, ModelConfig
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import ConfigError
from xtrimogene.inference import Inference, choose_device, readable_cells
from xtrimogene.model.tail import Tail, with_weights
from xtrimogene.model.xtrimogene import XTrimoGene

MakeCounts = Callable[..., sparse.csr_matrix]
CONFIG = ModelConfig(
    num_genes=50,
    encoder=EncoderConfig(dim=8, num_layers=2, num_heads=2),
    decoder=DecoderConfig(dim=6, num_layers=2, num_heads=2, num_features=8),
    num_bins=4,
    latent_dim=3,
)
MODEL = PretrainedModel(
    XTrimoGene(CONFIG).eval().requires_grad_(False), GeneVocabulary(tuple(f"G{i}" for i in range(50)), ("",) * 50)
)
BUDGETS = [1, 30, 100, 10_000]


def inference(token_budget: int | None = None) -> Inference:
    return Inference(MODEL, device="cpu", token_budget=token_budget)


@pytest.mark.parametrize(("pool", "width"), [("all", 32), ("max", 8), ("mean", 8), ("latent", 3), (None, 32)])
def test_cell_embeddings_do_not_depend_on_the_token_budget(make_counts: MakeCounts, pool: str, width: int) -> None:
    counts = make_counts(20)
    one, *others = (inference(budget).cell_embeddings(counts, pool=pool) for budget in BUDGETS)  # type: ignore[arg-type]
    assert one.shape == (20, width) and one.dtype == np.float32
    assert inference().embedding_dim(pool) == width  # type: ignore[arg-type]
    for other in others:
        assert np.abs(one - other).max() <= 1e-5


@pytest.mark.filterwarnings("ignore:precision='(bfloat16|int8)' is several times slower")
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_a_lower_precision_is_near_float32(make_counts: MakeCounts, precision: EncoderPrecision) -> None:
    counts = make_counts(20)
    exact = inference().cell_embeddings(counts, pool="mean")
    found = Inference(MODEL, device="cpu", precision=precision).cell_embeddings(counts, pool="mean")
    assert 1e-5 < np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.02


def test_blank_genes_are_read_once_for_all_batches(make_counts: MakeCounts) -> None:
    counts, rows = make_counts(6), list[int]()
    key = MODEL.network.decoder.blocks[0].attention.key
    with key.register_forward_hook(lambda module, given, out: rows.append(len(out))):
        inference(1).expression(counts)
    tokens = (np.diff(counts.indptr) + 2).tolist()
    assert rows == [52, 52, *sorted(tokens)], "every position as zero and as unknown, then each cell's own"


@pytest.mark.parametrize("num_layers", [1, 2])
def test_tails_give_what_the_network_with_their_weights_gives(make_counts: MakeCounts, num_layers: int) -> None:
    counts = sparse.vstack([make_counts(9), sparse.csr_matrix((1, 50), dtype=np.float32)], format="csr")
    tail = Tail(MODEL.network, "latent", num_layers=num_layers)
    weights = [{name: size * weight for name, weight in tail.weights().items()} for size in (1.0, 1.1, 0.8)]
    done: list[int] = []
    found = inference(60).tail_embeddings(
        counts, [tail.with_weights(one) for one in weights], read_depth="t4", progress=done.append
    )
    assert found.shape == (3, 10, MODEL.config.latent_dim) and sum(done) == 9 and len(done) > 1
    for vectors, one in zip(found, weights, strict=True):
        reader = Inference(replace(MODEL, network=with_weights(MODEL.network, one)), token_budget=60)
        np.testing.assert_array_equal(vectors, reader.cell_embeddings(counts, pool="latent", read_depth="t4"))
    assert np.abs(found[0, :9] - found[1, :9]).max() > 1e-3 and np.isnan(found[:, 9]).all()


def test_rows_come_back_in_the_order_they_were_given(make_counts: MakeCounts) -> None:
    counts = make_counts(12)
    order = np.random.default_rng(1).permutation(12)
    straight, shuffled = (inference(60).cell_embeddings(c) for c in (counts, counts[order]))
    assert np.abs(shuffled - straight[order]).max() <= 1e-5


def test_genes_and_expression_agree_with_asking_for_some(make_counts: MakeCounts) -> None:
    counts, some = make_counts(5), np.array([40, 0, 3])
    for budget in (1, 150, 10_000):
        embeddings, expression = (
            getattr(inference(budget), name)(counts) for name in ("gene_embeddings", "expression")
        )
        assert embeddings.shape == (5, 50, 6) and expression.shape == (5, 50)
        asked = inference(budget).gene_embeddings(counts, genes=some)
        assert np.abs(asked - embeddings[:, some]).max() <= 1e-5
        assert np.abs(inference(budget).expression(counts, genes=some) - expression[:, some]).max() <= 1e-5
        head = MODEL.network.head
        by_hand = embeddings @ head.weight.numpy()[0] + head.bias.numpy()
        assert np.abs(by_hand - expression).max() <= 1e-5


def test_unmeasured_genes_are_unknown(make_counts: MakeCounts) -> None:
    measured = np.arange(50) < 45
    counts = sparse.csr_matrix(make_counts(3).toarray() * measured)
    known, unknown = (inference().expression(counts, measured=m) for m in (None, measured))
    assert np.abs(known - unknown)[:, 45:].min() > 0
    assert np.abs(inference(1).expression(counts, measured=measured) - unknown).max() <= 1e-5


def test_cells_that_cannot_be_read_are_nan(make_counts: MakeCounts) -> None:
    dense = make_counts(6).toarray()
    dense[[0, 4]] = 0
    dense[4, 7] = 1  # S = log10(1) = 0
    counts = sparse.csr_matrix(dense)
    assert readable_cells(counts).tolist() == [False, True, True, True, False, True]
    for result in (inference().cell_embeddings(counts), inference().expression(counts)):
        assert np.isnan(result).all(axis=1).tolist() == [True, False, False, False, True, False]
        assert not np.isnan(result[[1, 2, 3, 5]]).any()


@pytest.mark.parametrize("num_cells", [0, 2])
def test_nothing_to_read_has_the_right_shape(num_cells: int) -> None:
    counts = sparse.csr_matrix((num_cells, 50), dtype=np.float32)
    assert inference().cell_embeddings(counts, pool="latent").shape == (num_cells, 3)
    assert inference().gene_embeddings(counts, genes=np.array([1, 2])).shape == (num_cells, 2, 6)
    assert inference().expression(counts).shape == (num_cells, 50)


def test_read_depth_and_normalization_are_used(make_counts: MakeCounts) -> None:
    counts = make_counts(3)
    default = inference().cell_embeddings(counts)
    assert np.array_equal(default, inference().cell_embeddings(counts, read_depth="f1"))
    assert np.abs(default - inference().cell_embeddings(counts, read_depth="f10")).max() > 1e-3
    assert np.abs(default - inference().cell_embeddings(counts, normalized=True)).max() > 1e-3


def test_progress_counts_the_cells(make_counts: MakeCounts) -> None:
    done: list[int] = []
    inference(40).cell_embeddings(make_counts(9), progress=done.append)
    assert sum(done) == 9 and len(done) > 1


def test_the_token_budget_bounds_a_batch(make_counts: MakeCounts, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    encode = XTrimoGene.encode
    monkeypatch.setattr(
        XTrimoGene, "encode", lambda self, packed: (sizes.append(len(packed.values)), encode(self, packed))[1]
    )
    counts = make_counts(30)
    inference(40).cell_embeddings(counts)
    assert max(sizes) <= 40 + 2 * 30
    assert len(sizes) < 30  # several cells to a batch


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inference(0), "token_budget=0 must be at least 1"),
        (lambda: choose_device("nonsense"), "device='nonsense' is not available"),
        (
            lambda: inference().cell_embeddings(sparse.csr_matrix((1, 3), dtype=np.float32)),
            "3 columns, the model 50 genes",
        ),
        (lambda: inference().cell_embeddings(sparse.csr_matrix((1, 50)), read_depth="x1"), "'x1'"),
    ],
)
def test_what_cannot_work_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.gpu
@pytest.mark.parametrize("token_budget", [30, 10_000])
def test_a_gpu_gives_the_same_numbers(make_counts: MakeCounts, token_budget: int) -> None:
    counts, some = make_counts(20), np.array([40, 0, 3])
    answers = []
    for device in ("cpu", "cuda"):
        one = Inference(MODEL, device=device, token_budget=token_budget)
        answers.append([one.cell_embeddings(counts), one.gene_embeddings(counts, genes=some), one.expression(counts)])
    for by_cpu, by_gpu in zip(*answers, strict=True):
        assert np.abs(by_cpu - by_gpu).max() <= 1e-4
