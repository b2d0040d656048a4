"""What the encoder attends to: how much of the attention of one gene goes to another, mean of the cells with both.

In parts of an even spread over the cell's tokens, so that it does not depend on their number; mean of layers and heads.
Letters: B cells; T sources, whom is attended to; A targets, who attend; G genes of the model; n tokens of a cell.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float32, Int64
from scipy.sparse import csr_matrix
from torch import Tensor

from xtrimogene.data.packed_cells import PackedCells, pack_cells
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.errors import ConfigError
from xtrimogene.inference import Inference, readable_cells
from xtrimogene.model.transformer_block import EncoderBlock
from xtrimogene.model.xtrimogene import XTrimoGene

LEAST_CELLS = 5  # with both genes: a mean of fewer says little
_MOST_PAIRS = 1 << 26


def mean_attention(
    inference: Inference,
    counts: csr_matrix,
    *,
    sources: Int64[np.ndarray, " T"],
    targets: Int64[np.ndarray, " A"],
    normalized: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Float32[np.ndarray, "T A"]:
    """Return the mean attention of each target to each source; NaN where fewer than 5 cells have both.

    Raises
    ------
    ConfigError
        More than 67 million pairs.
    """
    if len(sources) * len(targets) > _MOST_PAIRS:
        raise ConfigError(f"{len(sources):,} x {len(targets):,} pairs of genes are too many; give fewer genes.")
    sums, cells = (np.zeros((len(sources), len(targets)), dtype=np.float32) for _ in range(2))
    num_places = inference.config.num_genes + 2
    row_of, column_of = _inverse(sources, num_places), _inverse(targets, num_places)
    depth = ReadDepth.parse(inference.config.read_depth)
    for row in np.flatnonzero(readable_cells(counts)):
        with torch.inference_mode():
            packed = pack_cells(counts[[row]], normalized=normalized)
            packed = inference.network.append_read_depth(packed, *depth.tokens(packed.totals)).to(inference.device)
            ids = packed.gene_ids.cpu().numpy()
            source, target = np.flatnonzero(row_of[ids] >= 0), np.flatnonzero(column_of[ids] >= 0)
            weights = _attention(inference.network, packed, source, target)
        pairs = np.ix_(row_of[ids[source]], column_of[ids[target]])
        sums[pairs] += weights.T.float().cpu().numpy() * len(ids)
        cells[pairs] += 1
        if progress is not None:
            progress(1)
    return np.divide(sums, cells, out=np.full_like(sums, np.nan), where=cells >= LEAST_CELLS)


def _attention(
    network: XTrimoGene, packed: PackedCells, source: Int64[np.ndarray, " s"], target: Int64[np.ndarray, " t"]
) -> Tensor:
    """Return the attention of target tokens of one cell to source tokens, mean of layers and heads: t x s."""
    from_target, to_source = (torch.from_numpy(places).to(packed.values.device) for places in (target, source))
    layers = [weights[:, to_source] for weights in _layers(network, packed, from_target)]
    return torch.stack(layers).mean(dim=0)


def _layers(network: XTrimoGene, packed: PackedCells, rows: Tensor) -> Iterator[Tensor]:
    """Yield each layer's attention from these tokens to all of one cell, mean of heads."""
    x = network.embed_tokens(packed)
    for block in network.encoder.blocks:
        assert isinstance(block, EncoderBlock)
        read = block.attention_norm(x) if block.norm_first else x
        query, key, _ = block.attention.qkv(read).unflatten(-1, (3, block.attention.num_heads, -1)).unbind(1)
        scores = torch.einsum("thd,nhd->htn", query[rows], key) * query.shape[-1] ** -0.5
        yield scores.softmax(dim=-1).mean(dim=0)
        x = block(x, packed.segments)


def _inverse(places: Int64[np.ndarray, " m"], number: int) -> Int64[np.ndarray, " p"]:
    inverse = np.full(number, -1, dtype=np.int64)
    inverse[places] = np.arange(len(places))
    return inverse
