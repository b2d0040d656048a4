"""Performer attention in row chunks: the features of a chunk are made, used and dropped; backward makes them again.

The keys' stabilizer M is a maximum over the whole cell, known only at the end. A running maximum r is exact even so:

    sum_n (exp(x_n - M) + epsilon) v_n = exp(r - M) sum_n exp(x_n - r) v_n + epsilon sum_n v_n

Beyond its arguments, backward needs the output, one normalizer per query and head, and the state and the maximum of
each cell. Stabilizers are detached, as in the reference.

Letters: M query rows, N key rows, packed; B cells; H heads; d width of a head; m features; c rows of a chunk.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from xtrimogene_kernels.segments import Segments

# A chunk's features (8 heads x 256 rows x 256 features in float32: 2 MB) stay in a core's cache; an accelerator wants
# few, large launches.
CPU_CHUNK_ROWS = 256
ACCELERATOR_CHUNK_ROWS = 16384
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
    if chunk_rows is None:
        chunk_rows = CPU_CHUNK_ROWS if query.device.type == "cpu" else ACCELERATOR_CHUNK_ROWS
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
        chunk_rows: int,
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
            states.append(torch.cat([state.sums, state.totals[..., None]], -1))
            maxima.append(keys.maximum)
        ctx.save_for_backward(query, key, value, projection, output, normalizers, *states, *maxima)
        ctx.lengths, ctx.epsilon, ctx.chunk_rows = lengths, epsilon, chunk_rows
        return output.to(query.dtype)  # what is kept is not rounded: gradients are small differences of it

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, projection, output, normalizers, *cells = ctx.saved_tensors
        states, maxima = cells[: len(cells) // 2], cells[len(cells) // 2 :]
        maps = FeatureMaps(projection, query.shape[1], query.dtype, ctx.chunk_rows)
        grad_query, grad_key, grad_value = (torch.empty_like(rows) for rows in (query, key, value))
        for (q_rows, k_rows), state, maximum in zip(_cells(*ctx.lengths), states, maxima, strict=True):
            upstream = (query[q_rows], output[q_rows], normalizers[q_rows], grad_output[q_rows])
            grad_state = _query_backward(*upstream, state, maps, ctx.epsilon, grad_query[q_rows])
            grads = (grad_key[k_rows], grad_value[k_rows])
            _key_backward(key[k_rows], value[k_rows], maximum, grad_state, maps, ctx.epsilon, *grads)
        return grad_query, grad_key, grad_value, None, None, None, None


class FeatureMaps:
    """Rows to exponentials; d^-1/4 of both factors stands in the projection, so rows are read as they come.

    All chunks share one room, as memory that is new to a process costs as much as what is computed in it: features last
    until those of the next chunk.
    """

    def __init__(
        self, projection: Float[Tensor, "m d"], num_heads: int, dtype: torch.dtype, chunk_rows: int = CPU_CHUNK_ROWS
    ) -> None:
        self.dtype = torch.promote_types(dtype, torch.float32)
        self.num_heads, self.chunk_rows = num_heads, chunk_rows
        width = projection.shape[1]
        self.projection = projection.to(self.dtype) * width**-0.25  # (m, d)
        self.scale = width**-0.5
        self.room = self.projection.new_empty((0, num_heads, len(projection)))  # (c, H, m)

    def exponents(self, rows: Float[Tensor, "c H d"]) -> tuple[Float[Tensor, "c H m"], Float[Tensor, "c H 1"]]:
        if len(self.room) < len(rows):
            self.room = self.room.new_empty((len(rows), *self.room.shape[1:]))
        u = self.room[: len(rows)]
        torch.mm(rows.flatten(0, 1), self.projection.T, out=u.flatten(0, 1))
        return u, rows.square().sum(-1, keepdim=True).mul_(self.scale / 2)

    def query(self, rows: Float[Tensor, "c H d"]) -> Float[Tensor, "c H m"]:
        u, g = self.exponents(rows)
        return u.sub_(g.add_(u.amax(-1, keepdim=True))).exp_()

    def key(self, rows: Float[Tensor, "c H d"], maximum: Float[Tensor, ""]) -> Float[Tensor, "c H m"]:
        u, g = self.exponents(rows)
        return u.sub_(g.add_(maximum)).exp_()

    def backward(self, rows: Float[Tensor, "c H d"], grad: Float[Tensor, "c H m"]) -> Float[Tensor, "c H d"]:
        """From the gradient of the exponents u - g to that of the rows."""
        slope = grad.sum(-1, keepdim=True).mul_(-self.scale)  # (c, H, 1)
        grad_rows: Tensor = (grad @ self.projection).addcmul_(rows, slope)  # (c, H, d)
        return grad_rows


def _cells(query_lengths: Sequence[int], key_lengths: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    query_start = key_start = 0
    for num_queries, num_keys in zip(query_lengths, key_lengths, strict=True):
        yield slice(query_start, query_start + num_queries), slice(key_start, key_start + num_keys)
        query_start, key_start = query_start + num_queries, key_start + num_keys


def _chunks(num_rows: int, chunk_rows: int) -> Iterator[slice]:
    return (slice(start, min(start + chunk_rows, num_rows)) for start in range(0, num_rows, chunk_rows))


class KeySums:
    """Sums over the keys of one cell, whose rows may come some at a time. Nothing here has a gradient."""

    def __init__(self, maps: FeatureMaps, epsilon: float = EPSILON) -> None:
        num_features, width = maps.projection.shape
        self.maps, self.epsilon, self.num_rows = maps, epsilon, 0
        # Two tensors, not one: a batched GEMM into a slice would become one GEMM per head.
        self.sums = maps.projection.new_zeros((maps.num_heads, num_features, width))
        self.totals = maps.projection.new_zeros((maps.num_heads, num_features))
        self.value_sum = maps.projection.new_zeros((maps.num_heads, width))
        self.maximum = maps.projection.new_full((), float("-inf"))

    def add(self, key: Float[Tensor, "n H d"], value: Float[Tensor, "n H d"]) -> None:
        """Add the sums over some rows; the largest exponent so far is taken out of all."""
        maps = self.maps
        with torch.autocast(key.device.type, enabled=False):
            for rows in _chunks(len(key), maps.chunk_rows):
                u, g = maps.exponents(key[rows].to(maps.dtype))
                previous, self.maximum = self.maximum, torch.maximum(self.maximum, u.amax())
                features = u.sub_(g.add_(self.maximum)).exp_()  # (c, H, m), epsilon left out
                v = value[rows].to(maps.dtype)
                rescale = (previous - self.maximum).exp_()
                self.sums.mul_(rescale).baddbmm_(features.permute(1, 2, 0), v.transpose(0, 1))
                self.totals.mul_(rescale).add_(features.sum(0))
                self.value_sum.add_(v.sum(0))
        self.num_rows += len(key)

    def state(self) -> "KeyState":
        """Return what queries need of the rows added so far."""
        sums = self.sums.add(self.value_sum[:, None], alpha=self.epsilon)
        return KeyState(sums, self.totals + self.epsilon * self.num_rows, self.maps, self.epsilon)


class KeyState:
    """Sums of features x values and of features over the keys of one cell, epsilon counted in."""

    def __init__(
        self, sums: Float[Tensor, "H m d"], totals: Float[Tensor, "H m"], maps: FeatureMaps, epsilon: float
    ) -> None:
        self.sums, self.totals, self.maps = sums, totals, maps
        self.shared_sum = sums.sum(1).mul_(epsilon)  # (H, d), what epsilon adds to every query
        self.shared_total = totals.sum(1).mul_(epsilon)  # (H,)

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
            for rows in _chunks(len(query), maps.chunk_rows):
                features = maps.query(query[rows].to(maps.dtype))  # (c, H, m), epsilon left out
                sums = torch.bmm(features.transpose(0, 1), self.sums).add_(self.shared_sum[:, None])  # (H, c, d)
                # A one-column GEMM would cost as much as sixty-four columns.
                normalizer = torch.sum(features.mul_(self.totals), -1, out=normalizers[rows]).add_(self.shared_total)
                torch.div(sums.transpose(0, 1), normalizer[..., None], out=output[rows])


def _query_backward(
    query: Float[Tensor, "n H d"],
    output: Float[Tensor, "n H d"],
    normalizers: Float[Tensor, "n H"],
    grad_output: Float[Tensor, "n H d"],
    state: Float[Tensor, "H m d+1"],
    maps: FeatureMaps,
    epsilon: float,
    grad_query: Float[Tensor, "n H d"],
) -> Float[Tensor, "H m d+1"]:
    """Write the gradient of a cell's queries and return that of its state."""
    grad_state = torch.zeros_like(state)
    grad_sum = state.new_zeros((state.shape[0], state.shape[2]))  # (H, d+1)
    for rows in _chunks(len(query), maps.chunk_rows):
        q = query[rows].to(maps.dtype)
        features = maps.query(q)  # (c, H, m), epsilon left out
        grad = grad_output[rows].to(maps.dtype)  # (c, H, d)
        of_normalizer = -(grad * output[rows]).sum(-1, keepdim=True)  # (c, H, 1)
        grad = torch.cat([grad, of_normalizer], -1).div_(normalizers[rows][..., None])  # (c, H, d+1)
        grad_state.baddbmm_(features.permute(1, 2, 0), grad.transpose(0, 1))
        grad_sum.add_(grad.sum(0))
        of_features = torch.bmm(grad.transpose(0, 1), state.mT).transpose(0, 1)  # (c, H, m)
        grad_query[rows] = maps.backward(q, features.mul_(of_features))
    return grad_state.add_(grad_sum[:, None], alpha=epsilon)


def _key_backward(
    key: Float[Tensor, "n H d"],
    value: Float[Tensor, "n H d"],
    maximum: Float[Tensor, ""],
    grad_state: Float[Tensor, "H m d+1"],
    maps: FeatureMaps,
    epsilon: float,
    grad_key: Float[Tensor, "n H d"],
    grad_value: Float[Tensor, "n H d"],
) -> None:
    """Write the gradients of a cell's keys and values."""
    of_sums, of_totals = grad_state[..., :-1].contiguous(), grad_state[:, None, :, -1]  # (H, m, d), (H, 1, m)
    shared = of_sums.sum(1).mul_(epsilon)  # (H, d)
    for rows in _chunks(len(key), maps.chunk_rows):
        k = key[rows].to(maps.dtype)
        features = maps.key(k, maximum)  # (c, H, m), epsilon left out
        torch.add(torch.bmm(features.transpose(0, 1), of_sums).transpose(0, 1), shared, out=grad_value[rows])
        of_features = torch.baddbmm(of_totals, value[rows].to(maps.dtype).transpose(0, 1), of_sums.mT)  # (H, c, m)
        grad_key[rows] = maps.backward(k, features.mul_(of_features.transpose(0, 1)))
