"""Long cells in blocks of queries and keys by oneDNN's products; short ones, and causal attention, as in `sdpa`.

A block's softmax is unfinished: a running maximum makes the sum of all exact, and backward makes the scores again, as
in flash attention (Dao et al., 2022, arXiv:2205.14135). A cell is cut into equal blocks, so that few shapes occur, and
the last of them is filled up: with keys that no query sees, and with queries that nobody reads.

Letters: M query, N key rows of all cells, packed; H heads; d width of a head; m query, n key rows of one cell; b query,
c key rows of a block.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from xtrimogene_kernels import onednn
from xtrimogene_kernels.onednn import LOG2_E, block_rows, product, rounded_up, row_multiple, slices
from xtrimogene_kernels.segments import Segments
from xtrimogene_kernels.varlen_attention import sdpa

LONG = 320  # queries and keys for each thread, from which blocks are faster


def takes(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether this form can take these here and now, and is the faster: with AVX2 alone it is not."""
    return onednn.takes(query, key, value) and torch.backends.cpu.get_cpu_capability() == "AVX512"


def varlen_attention(
    query: Float[Tensor, "M H d"],
    key: Float[Tensor, "N H d"],
    value: Float[Tensor, "N H d"],
    query_segments: Segments,
    key_segments: Segments,
    *,
    causal: bool = False,
) -> Float[Tensor, "M H d"]:
    queries = torch.split(query, list(query_segments.lengths))
    keys, values = (torch.split(rows, list(key_segments.lengths)) for rows in (key, value))
    outputs, long = [], LONG * torch.get_num_threads()
    for q, k, v in zip(queries, keys, values, strict=True):
        if causal or min(len(q), len(k)) < long:
            outputs.append(sdpa.attend(q, k, v, causal))
        else:
            outputs.append(_Blocks.apply(q, k, v))  # type: ignore[no-untyped-call]
    if len(outputs) == 1:
        return outputs[0]
    return torch.cat(outputs) if outputs else torch.cat([query[:0], key[:0], value[:0]])


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Float[Tensor, "m H d"], key: Float[Tensor, "n H d"], value: Float[Tensor, "n H d"]
    ) -> Float[Tensor, "m H d"]:
        output, totals = query.new_empty(query.shape), query.new_empty(query.shape[1::-1])
        cell = _Cell(query, key, value)
        for rows in slices(cell.query.shape[1], cell.query_rows):
            stop = min(rows.stop, len(query))
            for head in range(query.shape[1]):
                attended, total = _attend(cell, head, rows)
                output[rows.start : stop, head] = attended[: stop - rows.start]
                totals[head, rows.start : stop] = total[: stop - rows.start, 0]
        ctx.save_for_backward(query, key, value, output, totals)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Float[Tensor, "m H d"]) -> tuple[Tensor, ...]:
        query, key, value, output, totals = ctx.saved_tensors
        of_total = (grad_output * output).sum(-1)  # (m, H)
        return _backward(_Cell(query, key, value), grad_output, totals, of_total)


class _Cell:
    """One cell, filled up to whole blocks; the scale d^-1/2 and the base 2 stand in the queries."""

    def __init__(
        self, query: Float[Tensor, "m H d"], key: Float[Tensor, "n H d"], value: Float[Tensor, "n H d"]
    ) -> None:
        self.num_keys, self.scale = len(key), query.shape[-1] ** -0.5
        # With four times as many keys as queries, the scores of a block are 4 MB a thread.
        self.query_rows = _equal(len(query), block_rows(), row_multiple())
        self.key_rows = _equal(len(key), 4 * block_rows(), 2 * row_multiple())
        self.query = _filled(query, self.query_rows).mul_(self.scale * LOG2_E)  # (H, M, d)
        self.key, self.value = _filled(key, self.key_rows), _filled(value, self.key_rows)  # (H, N, d) each
        self.key_blocks = list(slices(self.key.shape[1], self.key_rows))

    def scores(self, head: int, queries: slice, keys: slice) -> Float[Tensor, "b c"]:
        """Return exponents of 2."""
        scores = product(self.query[head, queries], self.key[head, keys])
        if keys.stop > self.num_keys:
            scores[:, self.num_keys - keys.start :] = -math.inf
        return scores


def _equal(num_rows: int, most: int, multiple: int) -> int:
    """Return the rows of a block, where all are alike."""
    return rounded_up(math.ceil(num_rows / math.ceil(num_rows / most)), multiple)


def _filled(rows: Float[Tensor, "n H d"], multiple: int) -> Float[Tensor, "H N d"]:
    """Return a copy, a head's rows side by side, with rows of zeros up to a multiple."""
    num_rows, num_heads, width = rows.shape
    out = rows.new_empty((num_heads, rounded_up(num_rows, multiple), width))
    out[:, :num_rows] = rows.transpose(0, 1)
    out[:, num_rows:] = 0
    return out


def _attend(cell: _Cell, head: int, queries: slice) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b 1"]]:
    """Return what the queries of a block read, and the logarithm (base 2) of their denominators."""
    attended, total, maximum = _read(cell, head, queries, cell.key_blocks[0])
    for keys in cell.key_blocks[1:]:
        of_block, sums, largest = _read(cell, head, queries, keys)
        before, maximum = maximum, torch.maximum(maximum, largest)
        rescale, of_this = (before - maximum).exp2_(), largest.sub_(maximum).exp2_()
        attended = of_block.mul_(of_this).addcmul_(attended, rescale)
        total = sums.mul_(of_this).addcmul_(total, rescale)
    return attended.div_(total), total.log2_().add_(maximum)


def _read(
    cell: _Cell, head: int, queries: slice, keys: slice
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b 1"], Float[Tensor, "b 1"]]:
    """Return sums over the keys of a block, their denominators, and the largest exponents, which are taken out."""
    weights = cell.scores(head, queries, keys)
    largest = weights.amax(-1, keepdim=True)
    weights.sub_(largest).exp2_()
    return product(weights, cell.value[head, keys].T), weights.sum(-1, keepdim=True), largest


def _backward(
    cell: _Cell, grad_output: Float[Tensor, "m H d"], totals: Float[Tensor, "H m"], of_total: Float[Tensor, "m H"]
) -> tuple[Float[Tensor, "m H d"], Float[Tensor, "n H d"], Float[Tensor, "n H d"]]:
    """Return the gradients of queries, keys and values."""
    num_queries, num_heads, _ = grad_output.shape
    upstream = _filled(grad_output, cell.query_rows)  # (H, M, d)
    totals, of_total = (_filled(part[..., None], cell.query_rows) for part in (totals.T, of_total))  # (H, M, 1) each
    grad_query = torch.zeros_like(cell.query)
    grad_key, grad_value = (torch.zeros_like(rows.mT) for rows in (cell.key, cell.value))  # (H, d, N)
    for queries in slices(cell.query.shape[1], cell.query_rows):
        for head in range(num_heads):
            grad = upstream[head, queries]
            for keys in cell.key_blocks:
                weights = cell.scores(head, queries, keys).sub_(totals[head, queries]).exp2_()  # (b, c)
                grad_value[head, :, keys] += product(grad.T, weights.T)
                grad_scores = product(grad, cell.value[head, keys]).sub_(of_total[head, queries]).mul_(weights)
                grad_query[head, queries] += product(grad_scores, cell.key[head, keys].T)
                grad_key[head, :, keys] += product(cell.query[head, queries].T, grad_scores.T)
    of_query = grad_query.mul_(cell.scale)[:, :num_queries].transpose(0, 1)
    of_key, of_value = (rows[..., : cell.num_keys].permute(2, 0, 1) for rows in (grad_key.div_(LOG2_E), grad_value))
    return of_query, of_key, of_value
