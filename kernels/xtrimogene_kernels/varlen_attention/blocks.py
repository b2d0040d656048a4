"""Long cells in blocks of queries and keys by oneDNN's products; short ones, and causal attention, as in `sdpa`.

A block's softmax is unfinished: a running maximum makes the sum of all exact, and backward makes the scores again, as
in flash attention (Dao et al., 2022, arXiv:2205.14135). A cell is cut into equal blocks, so that few shapes occur, and
the last of them is filled up: with keys that no query sees, and with queries that nobody reads.

Letters: M query, N key rows of all cells, packed; H heads; d width of a head; m query, n key rows of one cell; b query,
c key rows of a block.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from xtrimogene_kernels import onednn
from xtrimogene_kernels.onednn import block_rows, multiple, product
from xtrimogene_kernels.segments import Segments
from xtrimogene_kernels.varlen_attention import sdpa

LONG = 320  # queries and keys for each thread, from which blocks are faster
LOG2_E = math.log2(math.e)


def takes(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether this form can take these here and now, and is the faster: with AVX2 alone it is not."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and onednn.takes(query, key, value)


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
        for head in range(query.shape[1]):
            cell = _Cell(query[:, head], key[:, head], value[:, head])
            for rows in cell.query_blocks():
                attended, total = _attend(cell, rows)
                stop = min(rows.stop, len(query))
                output[rows.start : stop, head] = attended[: stop - rows.start]
                totals[head, rows.start : stop] = total[: stop - rows.start, 0]
        ctx.save_for_backward(query, key, value, output, totals)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Float[Tensor, "m H d"]) -> tuple[Tensor, ...]:
        query, key, value, output, totals = ctx.saved_tensors
        grads = tuple(torch.empty_like(rows) for rows in (query, key, value))
        of_total = (grad_output * output).sum(-1)  # (m, H)
        for head in range(query.shape[1]):
            cell = _Cell(query[:, head], key[:, head], value[:, head])
            of_cell = _backward(cell, grad_output[:, head], totals[head, :, None], of_total[:, head, None])
            for grad, of_head in zip(grads, of_cell, strict=True):
                grad[:, head] = of_head[: len(grad)]
        return grads


class _Cell:
    """One head of one cell, filled up to whole blocks; the scale d^-1/2 and the base 2 stand in the queries."""

    def __init__(self, query: Float[Tensor, "m d"], key: Float[Tensor, "n d"], value: Float[Tensor, "n d"]) -> None:
        self.num_keys, self.scale = len(key), query.shape[1] ** -0.5
        self.query_rows, self.key_rows = _block_rows(len(query)), _block_rows(len(key))
        self.query = filled(query, self.query_rows).mul_(self.scale * LOG2_E)
        self.key, self.value = filled(key, self.key_rows), filled(value, self.key_rows)

    def query_blocks(self) -> Iterator[slice]:
        return _slices(len(self.query), self.query_rows)

    def key_blocks(self) -> Iterator[slice]:
        return _slices(len(self.key), 2 * self.key_rows)

    def scores(self, queries: slice, keys: slice) -> Float[Tensor, "b c"]:
        """Return exponents of 2."""
        scores = product(self.query[queries], self.key[keys])
        if keys.stop > self.num_keys:
            scores[:, self.num_keys - keys.start :] = -math.inf
        return scores


def _block_rows(num_rows: int) -> int:
    """Cut into equal blocks; with twice as many keys, the scores of one are 2 MB a thread."""
    return _rounded_up(math.ceil(num_rows / math.ceil(num_rows / block_rows())), multiple())


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def filled(rows: Float[Tensor, "n d"], multiple: int) -> Float[Tensor, "N d"]:
    """Return a copy, with rows of zeros up to a multiple."""
    out = rows.new_zeros((_rounded_up(len(rows), multiple), rows.shape[1]))
    out[: len(rows)] = rows
    return out


def _slices(num_rows: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step))


def _attend(cell: _Cell, queries: slice) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b 1"]]:
    """Return what the queries of a block read, and the logarithm (base 2) of their denominators."""
    rows = cell.query[queries]
    attended, total = torch.zeros_like(rows), rows.new_zeros((len(rows), 1))
    maximum = torch.full_like(total, -math.inf)
    for keys in cell.key_blocks():
        weights = cell.scores(queries, keys)
        largest = torch.maximum(maximum, weights.amax(-1, keepdim=True))  # (b, 1)
        rescale = maximum.sub_(largest).exp2_()
        weights.sub_(largest).exp2_()
        attended = product(weights, cell.value[keys].T).addcmul_(attended, rescale)
        total = weights.sum(-1, keepdim=True).addcmul_(total, rescale)
        maximum = largest
    return attended.div_(total), total.log2_().add_(maximum)


def _backward(
    cell: _Cell, grad_output: Float[Tensor, "m d"], totals: Float[Tensor, "m 1"], of_total: Float[Tensor, "m 1"]
) -> tuple[Float[Tensor, "M d"], Float[Tensor, "N d"], Float[Tensor, "N d"]]:
    """Return the gradients of the cell's filled rows."""
    grad_output, totals, of_total = (filled(rows, cell.query_rows) for rows in (grad_output, totals, of_total))
    grad_query = torch.zeros_like(cell.query)
    grad_key, grad_value = (rows.new_zeros(rows.shape[::-1]) for rows in (cell.key, cell.value))  # (d, N)
    for queries in cell.query_blocks():
        grad = grad_output[queries]
        for keys in cell.key_blocks():
            weights = cell.scores(queries, keys).sub_(totals[queries]).exp2_()  # (b, c)
            grad_value[:, keys] += product(grad.T, weights.T)
            grad_scores = product(grad, cell.value[keys]).sub_(of_total[queries]).mul_(weights)
            grad_query[queries] += product(grad_scores, cell.key[keys].T)
            grad_key[:, keys] += product(cell.query[queries].T, grad_scores.T)
    return grad_query.mul_(cell.scale), grad_key.div_(LOG2_E).T, grad_value.T
