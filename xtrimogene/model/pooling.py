"""From the encoder's tokens to one vector a cell.

Letters: B cells, N tokens (T and S last in each cell), D width, L latent width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from xtrimogene.config import Pool
from xtrimogene.data.packed_cells import PackedCells
from xtrimogene.errors import ConfigError
from xtrimogene.model.heads import LatentHead
from xtrimogene_kernels.segment_pool import segment_pool
from xtrimogene_kernels.segments import Segments


def pool_cells(
    tokens: Float[Tensor, "N D"], packed: PackedCells, pool: Pool, latent_head: LatentHead | None
) -> Float[Tensor, "B _"]:
    """Pool: "max" is D wide, "mean" D, "all" 4 D, "latent" L, with less of read depth.

    Raises
    ------
    ConfigError
        "latent" without a latent head.
    """
    if pool == "max":
        return pool_max(tokens, packed.segments)
    if pool == "mean":
        return pool_mean(tokens, packed.segments)
    if pool == "all":
        return pool_all(tokens, packed.segments)
    if latent_head is None:
        raise ConfigError("pool='latent' needs a model with a latent cell vector; choose all, max or mean.")
    return latent_head.without_depth(read_latent(tokens, packed, latent_head))


def read_latent(tokens: Float[Tensor, "N D"], packed: PackedCells, head: LatentHead) -> Float[Tensor, "B L"]:
    """Read each cell's latent vector off its tokens."""
    return head.latent(pool_all(tokens, packed.segments), pool_weighted(tokens, packed))


def pool_max(tokens: Float[Tensor, "N D"], segments: Segments) -> Float[Tensor, "B D"]:
    """Maximum over all tokens, T and S included, as in the released code."""
    return segment_pool(tokens, segments)[0]


def pool_mean(tokens: Float[Tensor, "N D"], segments: Segments) -> Float[Tensor, "B D"]:
    """Mean over the genes; T and S are left out."""
    return _over_genes(tokens, segments)[1]


def pool_all(tokens: Float[Tensor, "N D"], segments: Segments) -> Float[Tensor, "B 4*D"]:
    """S token, T token, maximum over genes, mean over genes, side by side."""
    last = segments.cu_seqlens[1:].long() - 1
    return torch.cat([tokens[last], tokens[last - 1], *_over_genes(tokens, segments)], dim=-1)


def pool_weighted(tokens: Float[Tensor, "N D"], packed: PackedCells) -> Float[Tensor, "B D"]:
    """Mean over the genes weighted by their values; T and S are left out."""
    last = packed.segments.cu_seqlens[1:].long() - 1
    weights = packed.values.index_fill(0, torch.cat([last, last - 1]), 0.0)[:, None]  # (N, 1)
    means = segment_pool(torch.cat([tokens * weights, weights], dim=-1), packed.segments)[1]  # (B, D + 1)
    return (means[:, :-1] / means[:, -1:]).to(tokens.dtype)


def _over_genes(tokens: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    is_gene = torch.ones(len(tokens), dtype=torch.bool)
    ends = torch.tensor(segments.lengths).cumsum(0)
    is_gene[ends - 1] = False
    is_gene[ends - 2] = False
    rows = is_gene.nonzero().squeeze(1).to(tokens.device, non_blocking=True)
    genes = Segments.from_lengths([length - 2 for length in segments.lengths], tokens.device)
    return segment_pool(tokens[rows], genes)
