from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.packed_cells import pack_cells
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.errors import ConfigError
from xtrimogene.inference import Inference
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.tasks.gene_network import attention as attention_module
from xtrimogene.tasks.gene_network.attention import mean_attention
from xtrimogene.tasks.gene_network.gene_vectors import SHRINKAGE, gene_vectors
from xtrimogene.tasks.gene_network.network import NetworkMethod, gene_network

GENES = np.array([3, 50, 120, 399])


@pytest.fixture
def inference(tiny_model: PretrainedModel) -> Inference:
    return Inference(tiny_model, device="cpu")


def test_covariation_is_the_shrunk_covariance_of_predicted_expression(
    inference: Inference, make_counts: Callable[..., csr_matrix], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, groups = make_counts(12, 400), np.arange(12) % 2
    head = inference.network.latent_head
    assert head is not None
    with torch.inference_mode():
        factors = head.gene_query(inference.network.gene_embedding.table[:400]).numpy()
    centred = (factors - factors.mean(axis=0))[GENES]
    alone = gene_vectors(inference, counts, "factors", genes=GENES, groups=groups)
    np.testing.assert_allclose(alone, [centred, centred], atol=1e-6)
    monkeypatch.setattr("xtrimogene.tasks.gene_network.gene_vectors.SHRINKAGE", 0.0)
    vectors = gene_vectors(inference, counts, "covariation", genes=GENES, groups=groups)
    latent = torch.from_numpy(inference.cell_embeddings(counts[groups == 1], pool="latent"))
    with torch.inference_mode():
        predicted = inference.network.predict_from_latent(latent, torch.full((6,), 4.0)).numpy()
    plain = np.cov(predicted[:, GENES].T - predicted.mean(axis=1))  # about the mean of all genes
    weights = vectors[1] @ vectors[1].T
    np.testing.assert_allclose(weights / weights[0, 0], plain / plain[0, 0], rtol=0.05, atol=0.02)
    assert np.abs(vectors[0] @ vectors[0].T - weights).max() > 1e-3, "groups differ"


def test_cells_that_are_all_alike_leave_the_factors(
    inference: Inference, make_counts: Callable[..., csr_matrix]
) -> None:
    counts = make_counts(1, 400)[[0] * 4]
    (vectors,) = gene_vectors(inference, counts, "covariation", genes=GENES, groups=np.zeros(4, dtype=np.int64))
    (factors,) = gene_vectors(inference, counts, "factors", genes=GENES, groups=np.zeros(4, dtype=np.int64))
    np.testing.assert_allclose(
        vectors @ vectors.T, SHRINKAGE / (1 + SHRINKAGE) * factors @ factors.T, rtol=0.2, atol=1e-6
    )


def test_a_model_without_a_latent_vector_has_no_factors(
    tiny_model: PretrainedModel, make_counts: Callable[..., csr_matrix]
) -> None:
    network = XTrimoGene(replace(tiny_model.config, latent_dim=None, pool="all")).eval()
    plain = Inference(PretrainedModel(network, tiny_model.genes), device="cpu")
    with pytest.raises(ConfigError, match="needs a model with a latent cell vector"):
        gene_vectors(plain, make_counts(4, 400), "factors", genes=GENES, groups=np.zeros(4, dtype=np.int64))


def test_attention_is_the_mean_of_what_single_cells_attend_to(
    inference: Inference, make_counts: Callable[..., csr_matrix], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = make_counts(6, 400, 0.5)
    monkeypatch.setattr(attention_module, "LEAST_CELLS", 1)
    found = mean_attention(inference, counts, sources=GENES[:2], targets=GENES)
    network = inference.network
    depth = ReadDepth.parse(network.config.read_depth)
    sums, cells = np.zeros((2, 4)), np.zeros((2, 4))
    for row in range(6):
        packed = pack_cells(counts[[row]])
        packed = network.append_read_depth(packed, *depth.tokens(packed.totals))
        ids = packed.gene_ids.tolist()
        layers = []
        with torch.inference_mode():
            x = network.embed_tokens(packed)
            for block in network.encoder.blocks:
                query, key, _ = block.attention.qkv(block.attention_norm(x)).unflatten(-1, (3, 2, 8)).unbind(1)
                heads = [(query[:, h] @ key[:, h].T / 8**0.5).softmax(-1) for h in range(2)]
                layers.append(torch.stack(heads).mean(0))
                x = block(x, packed.segments)
        weights = torch.stack(layers).mean(0).numpy() * len(ids)
        for place, source in enumerate(GENES[:2]):
            for column, target in enumerate(GENES):
                if source in ids and target in ids:
                    sums[place, column] += weights[ids.index(target), ids.index(source)]
                    cells[place, column] += 1
    assert cells.max() > 1
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(found, sums / cells, rtol=1e-4)
    monkeypatch.setattr(attention_module, "LEAST_CELLS", 7)
    assert np.isnan(mean_attention(inference, counts, sources=GENES[:2], targets=GENES)).all()
    monkeypatch.setattr(attention_module, "_MOST_PAIRS", 7)
    with pytest.raises(ConfigError, match="2 x 4 pairs"):
        mean_attention(inference, counts, sources=GENES[:2], targets=GENES)


@pytest.mark.parametrize("method", ["factors", "covariation", "context", "attention"])
def test_edges_are_of_genes_that_the_group_expresses(
    inference: Inference,
    make_counts: Callable[..., csr_matrix],
    method: NetworkMethod,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention_module, "LEAST_CELLS", 1)
    counts = make_counts(14, 400, 0.6)
    groups = np.arange(14) % 2
    silent = 8
    counts = counts.tolil()
    counts[groups == 1, silent] = 0
    counts = csr_matrix(counts)
    genes = np.arange(5, 15)
    is_source = np.isin(genes, [silent, 9])
    first, second = gene_network(
        inference, counts, method, genes=genes, groups=groups, is_source=is_source, top=30, min_share=0.05
    )
    assert set(genes[first.source].tolist()) == {silent, 9}
    assert set(genes[second.source].tolist()) == {9} and silent not in genes[second.target]
    assert len(second) <= 8 and (np.diff(second.weight) <= 0).all()
    whole = gene_network(inference, counts, method, genes=genes, groups=groups, top=1000)[0]
    pairs = {(a, b) for a, b in zip(whole.source.tolist(), whole.target.tolist(), strict=True)}
    assert all(((b, a) in pairs) == (method == "attention") for a, b in pairs)
