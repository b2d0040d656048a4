"""What a gene and a value are turned into, and what is read off at the end."""

import torch
from torch.nn.functional import gelu, leaky_relu

from xtrimogene.model.gene_embedding import GeneEmbedding
from xtrimogene.model.heads import ExpressionHead, LatentHead
from xtrimogene.model.initialization import initialize
from xtrimogene.model.value_embedding import ValueEmbedding


@torch.no_grad()
def make_values(alpha: float = 0.7) -> ValueEmbedding:
    embedding = ValueEmbedding(6, 5, alpha)
    initialize(embedding, 0)
    embedding.mix_bins.bias.copy_(torch.randn(5, generator=torch.Generator().manual_seed(1)))
    return embedding


@torch.no_grad()
def test_value_embedding_is_a_soft_mix_of_bins() -> None:
    embedding = make_values()
    values = torch.tensor([0.0, 1.5, 9.0, 1.5])
    hidden = leaky_relu(values[:, None] * embedding.to_bins.weight[:, 0] + embedding.to_bins.bias, 0.1)
    scores = 0.7 * hidden + hidden @ embedding.mix_bins.weight.T + embedding.mix_bins.bias
    expected = scores.softmax(-1) @ embedding.bins
    got = embedding(values)
    torch.testing.assert_close(got, expected)
    assert torch.equal(got[1], got[3])
    assert not torch.allclose(got[1], got[2])


@torch.no_grad()
def test_a_hidden_value_has_a_row_of_its_own() -> None:
    embedding = make_values()
    shown = embedding.shown(torch.tensor([0.0, torch.nan, 2.0]))
    assert torch.equal(shown[1], embedding.mask)
    torch.testing.assert_close(shown[[0, 2]], embedding(torch.tensor([0.0, 2.0])))


def test_a_nan_leaves_the_gradient_finite() -> None:
    embedding = make_values()
    embedding.shown(torch.tensor([torch.nan, 2.0])).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in embedding.parameters())


def test_genes_are_rows_and_read_depth_tokens_follow_them() -> None:
    embedding = GeneEmbedding(7, 3)
    initialize_table(embedding)
    assert (embedding.target_depth_id, embedding.source_depth_id) == (7, 8)
    assert torch.equal(embedding(torch.tensor([8, 0, 0])), embedding.table[[8, 0, 0]])


@torch.no_grad()
def initialize_table(embedding: GeneEmbedding) -> None:
    embedding.table.copy_(torch.arange(27.0).view(9, 3))


def test_expression_head_is_one_linear_layer() -> None:
    head = ExpressionHead(4)
    x = torch.randn(6, 4)
    torch.testing.assert_close(head(x), x @ head.weight[0] + head.bias)


@torch.no_grad()
def test_latent_head_is_a_factor_model() -> None:
    head = LatentHead(3, 2, num_genes=4)
    head.gene_bias.copy_(torch.arange(4.0))
    latent, depth, table = torch.randn(5, 2), torch.randn(5), torch.randn(4, 3)
    cells = head.contract(gelu(head.expand(latent))) + torch.stack([head.depth(one[None]) for one in depth])
    expected = [[cells[b] @ head.gene_query(table[g]) + g for g in range(4)] for b in range(5)]
    torch.testing.assert_close(head(latent, depth, table), torch.tensor(expected))
    assert head.latent(torch.randn(5, 12), torch.randn(5, 3)).shape == (5, 2)
