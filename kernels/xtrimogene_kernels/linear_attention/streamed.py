"""Performer attention in row chunks: the features of a chunk are made, used and dropped; backward makes them again.

The keys' stabilizer M is a maximum over the whole cell, known only at the end. A running maximum r is exact even so:

    sum_n (exp(x_n - M) + epsilon) v_n = exp(r - M) sum_n exp(x_n - r) v_n + epsilon sum_n v_n

Exponents are to the base 2, whose exponential is four times as fast on some processors. Accelerators take all heads at
once; a CPU one after the other, so that a chunk stays in its cache and its products go to oneDNN.
Beyond its arguments, backward needs the output, one normalizer per query and head, and the state and the maximum of
each cell. Stabilizers are detached, as in the reference.

Letters: M query rows, N key rows, packed; B cells; H heads; d width of a head; m features; c rows of a chunk, n some
rows. "*h": nothing for one head, H for all.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from xtrimogene_kernels import onednn
from xtrimogene_kernels.onednn import LOG2_E
from xtrimogene_kernels.segments import Segments

# On a CPU the features of a chunk (1024 rows a thread x 256 features in float32: 1 MB) stay in a core's cache; an
# accelerator wants few, large launches.
CPU_CHUNK_ROWS = 1024
ACCELERATOR_CHUNK_ROWS = 16384
FEW_ROWS = 320  # of which all heads at once are faster
EPSILON = 1e-4


def linear_attention(
    query: Float[Tensor, "M H d"],
    key: Float[Tensor, "N H d"],
    value: Float[Tensor, "N H d"],
    projection: Float[Tensor, "m d"],
    query_segments: Segments,
    key_segments: Segments,
    *,
    epsilon: float = EPSILON,
    chunk_rows: int | None = None,
) -> Float[Tensor, "M H d"]:
    lengths = (query_segments.lengths, key_segments.lengths)
    output: Tensor = _Streamed.apply(query, key, value, projection, lengths, epsilon, chunk_rows)  # type: ignore[no-untyped-call]
    return output


class _Streamed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        projection: Tensor,
        lengths: tuple[Sequence[int], Sequence[int]],
        epsilon: float,
        chunk_rows: int | None,
    ) -> Tensor:
        maps = FeatureMaps(projection, query.shape[1], query.dtype, chunk_rows)
        output = query.new_empty(query.shape, dtype=maps.dtype)
        normalizers = query.new_empty(query.shape[:2], dtype=maps.dtype)  # (M, H)
        states, maxima = [], []
        for q_rows, k_rows in _cells(*lengths):
            keys = KeySums(maps, epsilon)
            keys.add(key[k_rows], value[k_rows])
            state = keys.state()
            state.attend_into(output[q_rows], normalizers[q_rows], query[q_rows])
            states += [state.sums, state.totals]
            maxima.append(state.maximum)
        ctx.save_for_backward(query, key, value, projection, output, normalizers, *maxima, *states)
        ctx.lengths, ctx.epsilon, ctx.chunk_rows = lengths, epsilon, chunk_rows
        return output.to(query.dtype)  # what is kept is not rounded: gradients are small differences of it

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, projection, output, normalizers, *cells = ctx.saved_tensors
        num_cells = len(cells) // 3
        maxima, states = cells[:num_cells], zip(cells[num_cells::2], cells[num_cells + 1 :: 2], strict=True)
        maps = FeatureMaps(projection, query.shape[1], query.dtype, ctx.chunk_rows)
        grad_query, grad_key, grad_value = (torch.empty_like(rows) for rows in (query, key, value))
        for (q_rows, k_rows), state, maximum in zip(_cells(*ctx.lengths), states, maxima, strict=True):
            upstream = (query[q_rows], output[q_rows], normalizers[q_rows], grad_output[q_rows])
            grad_state = _query_backward(*upstream, *state, maps, ctx.epsilon, grad_query[q_rows])
            grads = (grad_key[k_rows], grad_value[k_rows])
            _key_backward(key[k_rows], value[k_rows], maximum, *grad_state, maps, ctx.epsilon, *grads)
        return grad_query, grad_key, grad_value, None, None, None, None


class FeatureMaps:
    """Rows to exponents of 2; d^-1/4 of both factors stands in the projection, so rows are read as they come."""

    def __init__(
        self, projection: Float[Tensor, "m d"], num_heads: int, dtype: torch.dtype, chunk_rows: int | None = None
    ) -> None:
        self.on_cpu = projection.device.type == "cpu"
        default = CPU_CHUNK_ROWS * onednn.num_threads() if self.on_cpu else ACCELERATOR_CHUNK_ROWS
        self.dtype = torch.promote_types(dtype, torch.float32)
        self.num_heads, self.chunk_rows = num_heads, chunk_rows or default
        width = projection.shape[1]
        self.scale = width**-0.5
        self.weight = projection.detach().to(self.dtype) * width**-0.25  # (m, d)
        self.weight_of_two = self.weight * LOG2_E

    def parts(self, num_rows: int) -> Iterator[tuple[slice, int | slice]]:
        """Yield rows and heads that are taken at once: on a CPU a head after the other, but of the last, few rows."""
        one_by_one = num_rows - num_rows % onednn.row_multiple() if self.on_cpu and num_rows >= FEW_ROWS else 0
        for rows in onednn.slices(one_by_one, self.chunk_rows):
            yield from ((rows, head) for head in range(self.num_heads))
        for rows in onednn.slices(num_rows - one_by_one, self.chunk_rows):
            yield slice(one_by_one + rows.start, one_by_one + rows.stop), slice(None)

    def head(self, rows: Float[Tensor, "c H d"], head: int | slice) -> Float[Tensor, "*h c d"]:
        return rows.transpose(0, 1)[head].to(self.dtype)

    def exponents(self, rows: Float[Tensor, "*h c d"]) -> tuple[Float[Tensor, "*h c m"], Float[Tensor, "*h c 1"]]:
        u = product(rows, self.weight_of_two)
        return u, rows.square().sum(-1, keepdim=True).mul_(self.scale * LOG2_E / 2)

    def query(self, rows: Float[Tensor, "*h c d"]) -> Float[Tensor, "*h c m"]:
        u, g = self.exponents(rows)
        return u.sub_(g.add_(u.amax(-1, keepdim=True))).exp2_()

    def key(self, rows: Float[Tensor, "*h c d"], maximum: Float[Tensor, ""]) -> Float[Tensor, "*h c m"]:
        u, g = self.exponents(rows)
        return u.sub_(g.add_(maximum)).exp2_()

    def backward(self, rows: Float[Tensor, "*h c d"], grad: Float[Tensor, "*h c m"]) -> Float[Tensor, "*h c d"]:
        """From the gradient of the exponents of e to that of the rows."""
        slope = grad.sum(-1, keepdim=True).mul_(-self.scale)  # (*h, c, 1)
        return product(grad, self.weight.T).addcmul_(rows, slope)  # (*h, c, d)


def product(a: Float[Tensor, "*h n k"], b: Float[Tensor, "*g o k"]) -> Float[Tensor, "*h n o"]:
    """Return ``a @ b.mT``: one head's by oneDNN where that can be."""
    return onednn.product(a, b) if a.ndim == 2 and onednn.takes(a, b) else torch.matmul(a, b.mT)


def _cells(query_lengths: Sequence[int], key_lengths: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    query_start = key_start = 0
    for num_queries, num_keys in zip(query_lengths, key_lengths, strict=True):
        yield slice(query_start, query_start + num_queries), slice(key_start, key_start + num_keys)
        query_start, key_start = query_start + num_queries, key_start + num_keys


class KeySums:
    """Sums over the keys of one cell, whose rows may come some at a time. Nothing here has a gradient."""

    def __init__(self, maps: FeatureMaps, epsilon: float = EPSILON) -> None:
        num_features, width = maps.weight.shape
        self.maps, self.epsilon, self.num_rows = maps, epsilon, 0
        self.sums = maps.weight.new_zeros((maps.num_heads, width, num_features))
        self.totals = maps.weight.new_zeros((maps.num_heads, num_features))
        self.value_sum = maps.weight.new_zeros((maps.num_heads, width))
        self.maxima = maps.weight.new_full((maps.num_heads,), float("-inf"))

    def add(self, key: Float[Tensor, "n H d"], value: Float[Tensor, "n H d"]) -> None:
        """Add the sums over some rows; the largest exponent so far of a head is taken out of all of its."""
        maps = self.maps
        with torch.autocast(key.device.type, enabled=False):
            for rows, head in maps.parts(len(key)):
                u, g = maps.exponents(maps.head(key[rows], head))
                v = maps.head(value[rows], head)
                previous = self.maxima[head]
                maximum = torch.maximum(previous, u.amax((-2, -1)))
                features = u.sub_(g.add_(maximum[..., None, None])).exp2_()  # (*h, c, m), epsilon left out
                rescale = (previous - maximum).exp2_()[..., None]
                self.sums[head].mul_(rescale[..., None]).add_(product(v.mT, features.mT))
                self.totals[head].mul_(rescale).add_(features.sum(-2))
                self.value_sum[head].add_(v.sum(-2))
                self.maxima[head] = maximum
        self.num_rows += len(key)

    def state(self) -> "KeyState":
        """Return what queries need of the rows added so far: with one maximum for all heads."""
        maximum = self.maxima.amax()
        rescale = (self.maxima - maximum).exp2_()[:, None]
        totals = (self.totals * rescale).add_(self.epsilon * self.num_rows)
        sums = (self.sums * rescale[..., None]).add_(self.value_sum[..., None], alpha=self.epsilon)
        return KeyState(sums, totals, maximum, self.maps, self.epsilon)


class KeyState:
    """Sums of values x features and of features over the keys of one cell, epsilon counted in."""

    def __init__(
        self,
        sums: Float[Tensor, "H d m"],
        totals: Float[Tensor, "H m"],
        maximum: Float[Tensor, ""],
        maps: FeatureMaps,
        epsilon: float,
    ) -> None:
        self.sums, self.totals, self.maximum, self.maps = sums, totals, maximum, maps
        self.shared_sum = sums.sum(-1).mul_(epsilon)  # (H, d), what epsilon adds to every query
        self.shared_total = totals.sum(-1).mul_(epsilon)  # (H,)

    def attend(self, query: Float[Tensor, "n H d"]) -> Float[Tensor, "n H d"]:
        """Return the attention of some queries."""
        output = query.new_empty(query.shape, dtype=self.maps.dtype)
        self.attend_into(output, output.new_empty(query.shape[:2]), query)
        return output.to(query.dtype)

    def attend_into(
        self, output: Float[Tensor, "n H d"], normalizers: Float[Tensor, "n H"], query: Float[Tensor, "n H d"]
    ) -> None:
        """Write the attention of some queries into ``output`` and their denominators into ``normalizers``."""
        maps = self.maps
        with torch.autocast(query.device.type, enabled=False):
            for rows, head in maps.parts(len(query)):
                features = maps.query(maps.head(query[rows], head))  # (*h, c, m), epsilon left out
                sums = product(features, self.sums[head]).add_(self.shared_sum[head][..., None, :])  # (*h, c, d)
                # A one-column GEMM would cost as much as sixty-four columns.
                totals = features.mul_(self.totals[head][..., None, :])
                normalizer = normalizers[rows].T[head]  # (*h, c)
                torch.sum(totals, -1, out=normalizer).add_(self.shared_total[head][..., None])
                torch.div(sums, normalizer[..., None], out=output[rows].transpose(0, 1)[head])


def _query_backward(
    query: Float[Tensor, "n H d"],
    output: Float[Tensor, "n H d"],
    normalizers: Float[Tensor, "n H"],
    grad_output: Float[Tensor, "n H d"],
    sums: Float[Tensor, "H d m"],
    totals: Float[Tensor, "H m"],
    maps: FeatureMaps,
    epsilon: float,
    grad_query: Float[Tensor, "n H d"],
) -> tuple[Float[Tensor, "H d m"], Float[Tensor, "H m"]]:
    """Write the gradient of a cell's queries and return that of its sums and of its totals."""
    grad_sums, grad_totals = torch.zeros_like(sums), torch.zeros_like(totals)
    for rows, head in maps.parts(len(query)):
        q = maps.head(query[rows], head)
        features = maps.query(q)  # (*h, c, m), epsilon left out
        normalizer = normalizers[rows].T[head][..., None]  # (*h, c, 1)
        grad = maps.head(grad_output[rows], head) / normalizer  # (*h, c, d)
        of_total = (grad * maps.head(output[rows], head)).sum(-1, keepdim=True).neg_()  # (*h, c, 1)
        grad_sums[head].add_(product(grad.mT, features.mT)).add_(grad.sum(-2)[..., None], alpha=epsilon)
        grad_totals[head].add_((features.mT @ of_total)[..., 0]).add_(of_total.sum(-2), alpha=epsilon)
        of_features = product(grad, sums[head].mT).addcmul_(of_total, totals[head][..., None, :])  # (*h, c, m)
        grad_query[rows].transpose(0, 1)[head] = maps.backward(q, features.mul_(of_features))
    return grad_sums, grad_totals


def _key_backward(
    key: Float[Tensor, "n H d"],
    value: Float[Tensor, "n H d"],
    maximum: Float[Tensor, ""],
    grad_sums: Float[Tensor, "H d m"],
    grad_totals: Float[Tensor, "H m"],
    maps: FeatureMaps,
    epsilon: float,
    grad_key: Float[Tensor, "n H d"],
    grad_value: Float[Tensor, "n H d"],
) -> None:
    """Write the gradients of a cell's keys and values."""
    shared = grad_sums.sum(-1).mul_(epsilon)  # (H, d)
    for rows, head in maps.parts(len(key)):
        k, v = maps.head(key[rows], head), maps.head(value[rows], head)
        features = maps.key(k, maximum)  # (*h, c, m), epsilon left out
        of_value = product(features, grad_sums[head]).add_(shared[head][..., None, :])  # (*h, c, d)
        grad_value[rows].transpose(0, 1)[head] = of_value
        of_features = product(v, grad_sums[head].mT).add_(grad_totals[head][..., None, :])  # (*h, c, m)
        grad_key[rows].transpose(0, 1)[head] = maps.backward(k, features.mul_(of_features))
