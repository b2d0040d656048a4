"""Performer attention on a GPU: features are made in registers, used and dropped, forward and backward.

The keys of a cell are cut into spans, so that one cell alone fills a GPU; each is summed under the largest exponent met
in it, and the sums are joined exactly (see `streamed`). Queries read the joined state under a running row maximum, as
in flash attention. Stabilizers are detached, as in the reference.

Weights sum to one, so values may be counted from any centre that the output gets back. From their mean over the cell,
as here, a query's gradient is no small difference of large numbers, which half precision would lose. Beyond its
arguments, backward needs the output counted so, two numbers for each query and head, and the state of each cell.

bfloat16 is multiplied as it is and summed in float32. float16 would overflow in a state, so states are multiplied in
TF32 there; so are half-precision rows with a float32 projection. float32 is three TF32 products.

Letters: M query rows, N key rows, packed; B cells; S spans of the longest cell; H heads; d width of a head, D its power
of two; m features, F those of all tiles.
"""

import math
from typing import Any, NamedTuple

import torch
import triton
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from xtrimogene_kernels.linear_attention import triton_kernels as kernels
from xtrimogene_kernels.segments import Segments

SPAN_ROWS = 4096


def linear_attention(
    query: Float[Tensor, "M H d"],
    key: Float[Tensor, "N H d"],
    value: Float[Tensor, "N H d"],
    projection: Float[Tensor, "m d"],
    query_segments: Segments,
    key_segments: Segments,
    *,
    epsilon: float = 1e-4,
) -> Float[Tensor, "M H d"]:
    arguments = (query, key, value, projection, query_segments, key_segments, epsilon)
    with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]  # Triton launches on the current device
        output: Tensor = _Fused.apply(*arguments)  # type: ignore[no-untyped-call]
    return output


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        projection: Tensor,
        query_segments: Segments,
        key_segments: Segments,
        epsilon: float,
    ) -> Tensor:
        query, key, value = (rows if rows.stride(-1) == 1 else rows.contiguous() for rows in (query, key, value))
        precise = torch.promote_types(query.dtype, projection.dtype)
        projection = projection.detach().to(torch.float32 if precise == torch.float64 else precise).contiguous()
        call = _Call(query, projection, epsilon)
        state = _key_state(call, key, value, key_segments)
        output, answers = _query_output(call, query, state, query_segments)
        ctx.save_for_backward(query, key, value, projection, *answers, *state)
        ctx.segments, ctx.epsilon = (query_segments, key_segments), epsilon
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, projection, *saved = ctx.saved_tensors
        query_segments, key_segments = ctx.segments
        call, answers, forward = _Call(query, projection, ctx.epsilon), _Answers(*saved[:3]), _State(*saved[3:])
        grad_output = grad_output.contiguous()
        grad_query, grad_totals = _query_backward(call, query, answers, grad_output, forward, query_segments)
        grad_state = _state_backward(call, query, answers, grad_output, grad_totals, query_segments)
        grad_key, grad_value = _key_backward(call, key, value, forward, grad_state, key_segments)
        return grad_query, grad_key, grad_value, None, None, None, None


class _State(NamedTuple):
    """What the rows of each cell, less their centre, sum to: features x rows, features, and the stabilizer of both."""

    sums: Float[Tensor, "B H F D"]
    totals: Float[Tensor, "B H F"]
    maxima: Float[Tensor, "B"]
    centres: Float[Tensor, "B H D"]


class _Answers(NamedTuple):
    """What is known of each query after forward."""

    centred: Float[Tensor, "M H d"]
    normalizers: Float[Tensor, "M H"]
    stabilizers: Float[Tensor, "M H"]


class _Partial(NamedTuple):
    """What the spans of each cell sum to; ``row_sums`` and ``row_totals`` stand without features."""

    sums: Float[Tensor, "BS H F D"]
    totals: Float[Tensor, "BS H F"]
    row_sums: Float[Tensor, "BS H D"]
    row_totals: Float[Tensor, "BS H"]


class _Call:
    """Sizes, scales and precision, the same for all kernels of a call."""

    def __init__(self, query: Float[Tensor, "M H d"], projection: Float[Tensor, "m d"], epsilon: float) -> None:
        self.projection, self.epsilon = projection, epsilon
        self.num_heads, width = query.shape[1:]
        self.precise = query.dtype == torch.float32
        self.dtype = torch.bfloat16 if query.dtype == torch.bfloat16 else torch.float32  # of what is multiplied
        self.width = max(16, triton.next_power_of_2(width))  # D; 16 is the least that a matrix unit takes
        self.crowded = self.width > 64 and projection.dtype != torch.bfloat16  # TF32 tiles of 4 warps would spill
        self.features = 32 if self.precise else 64  # of a tile
        self.chunks = triton.cdiv(len(projection), self.features)
        self.root = width**-0.25
        log2_e = math.log2(math.e)
        self.scalars = (len(projection), width, self.root * log2_e, self.root**2 / 2 * log2_e)

    def launch(self, rows: int) -> dict[str, Any]:
        """Return how a kernel is launched that takes at most so many rows at once: as many as its registers hold."""
        rows = 32 if self.precise else rows // 2 if self.width > 64 else rows
        return {
            "ROWS": rows,
            "FEATURES": self.features,
            "WIDTH": self.width,
            "CHUNKS": self.chunks,
            "PRECISION": "tf32x3" if self.precise else "tf32",
            "num_warps": 8 if rows >= 64 or self.crowded else 4,
            "num_stages": 2,
        }

    def tiles(self, segments: Segments, rows: int) -> tuple[int, tuple[int, int]]:
        """Return the tiles of the longest cell and the grid of a kernel whose programs take one each."""
        num_tiles = triton.cdiv(segments.max_length, rows)
        return num_tiles, (segments.num_segments * num_tiles, self.num_heads)

    def partial(self, segments: Segments) -> tuple[_Partial, int]:
        """Return where the spans of each cell are summed, and how many spans the longest has."""
        num_spans = max(1, triton.cdiv(segments.max_length, SPAN_ROWS))
        parts = (segments.num_segments * num_spans, self.num_heads)
        features = self.chunks * self.features
        shapes = ((*parts, features, self.width), (*parts, features), (*parts, self.width), parts)
        return _Partial(*(self.empty(*shape) for shape in shapes)), num_spans

    def join(
        self, partial: _Partial, maxima: Float[Tensor, "BS H C"], segments: Segments, num_spans: int, *, centred: bool
    ) -> _State:
        cells, heads, features, width = shape = (segments.num_segments, *partial.sums.shape[1:])
        sums = torch.empty(shape, dtype=self.dtype, device=self.projection.device)
        centres = self.empty(cells, heads, width) if centred else sums.new_zeros(0)
        state = _State(sums, self.empty(cells, heads, features), self.empty(cells), centres)
        if segments.num_segments:
            kernels.join_states[segments.num_segments * self.chunks, self.num_heads](
                *partial,
                maxima,
                segments.cu_seqlens,
                *state,
                num_spans,
                len(self.projection),
                self.epsilon,
                SPAN=SPAN_ROWS,
                FEATURES=self.features,
                WIDTH=self.width,
                CHUNKS=self.chunks,
                MAXIMA=triton.next_power_of_2(self.num_heads * self.chunks),
                CENTRED=centred,
            )
        return state

    def shared(self, state: _State) -> tuple[Float[Tensor, "B H D"], Float[Tensor, "B H"]]:
        """Return what epsilon gives every row that reads a state."""
        return state.sums.float().sum(2).mul_(self.epsilon), state.totals.sum(2).mul_(self.epsilon)

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.projection.device)


def _key_state(call: _Call, key: Tensor, value: Tensor, segments: Segments) -> _State:
    partial, num_spans = call.partial(segments)
    maxima = call.empty(*partial.totals.shape[:2], call.chunks)
    if segments.num_rows:
        kernels.key_state[len(partial.sums) * call.chunks, call.num_heads](
            key,
            value,
            call.projection,
            segments.cu_seqlens,
            *partial,
            maxima,
            *key.stride()[:2],
            *value.stride()[:2],
            num_spans,
            *call.scalars,
            SPAN=SPAN_ROWS,
            **call.launch(128),
        )
    return call.join(partial, maxima, segments, num_spans, centred=True)


def _query_output(
    call: _Call, query: Tensor, state: _State, segments: Segments
) -> tuple[Float[Tensor, "M H d"], _Answers]:
    output, centred = (torch.empty_like(query, memory_format=torch.contiguous_format) for _ in range(2))
    answers = _Answers(centred, call.empty(*query.shape[:2]), call.empty(*query.shape[:2]))
    options = call.launch(128)
    if segments.num_rows:
        num_tiles, grid = call.tiles(segments, options["ROWS"])
        kernels.query_output[grid](
            query,
            call.projection,
            segments.cu_seqlens,
            state.sums,
            state.totals,
            *call.shared(state),
            state.centres,
            output,
            *answers,
            *query.stride()[:2],
            num_tiles,
            *call.scalars,
            **options,
        )
    return output, answers


def _query_backward(
    call: _Call, query: Tensor, answers: _Answers, grad_output: Tensor, state: _State, segments: Segments
) -> tuple[Float[Tensor, "M H d"], Float[Tensor, "M H"]]:
    """Return the gradients of the queries and of their normalizers."""
    grad_query, grad_totals = torch.empty_like(grad_output), torch.empty_like(answers.normalizers)
    options = call.launch(64)
    if segments.num_rows:
        num_tiles, grid = call.tiles(segments, options["ROWS"])
        kernels.query_backward[grid](
            query,
            call.projection,
            segments.cu_seqlens,
            state.sums,
            state.totals,
            *answers,
            grad_output,
            grad_query,
            grad_totals,
            *query.stride()[:2],
            num_tiles,
            *call.scalars,
            call.root,
            **options,
        )
    return grad_query, grad_totals


def _state_backward(
    call: _Call, query: Tensor, answers: _Answers, grad_output: Tensor, grad_totals: Tensor, segments: Segments
) -> _State:
    partial, num_spans = call.partial(segments)
    if segments.num_rows:
        kernels.state_backward[len(partial.sums) * call.chunks, call.num_heads](
            query,
            call.projection,
            segments.cu_seqlens,
            answers.normalizers,
            answers.stabilizers,
            grad_output,
            grad_totals,
            *partial,
            *query.stride()[:2],
            num_spans,
            *call.scalars,
            SPAN=SPAN_ROWS,
            DTYPE=kernels.DTYPES[call.dtype],
            **call.launch(128),
        )
    no_maxima = call.empty(*partial.totals.shape[:2], call.chunks).zero_()  # queries bring their own stabilizers
    return call.join(partial, no_maxima, segments, num_spans, centred=False)


def _key_backward(
    call: _Call, key: Tensor, value: Tensor, state: _State, grad_state: _State, segments: Segments
) -> tuple[Float[Tensor, "N H d"], Float[Tensor, "N H d"]]:
    grad_key, grad_value = (torch.empty_like(rows, memory_format=torch.contiguous_format) for rows in (key, value))
    options = call.launch(64 if call.crowded else 128)
    if segments.num_rows:
        num_tiles, grid = call.tiles(segments, options["ROWS"])
        kernels.key_backward[grid](
            key,
            value,
            call.projection,
            segments.cu_seqlens,
            state.maxima,
            state.centres,
            grad_state.sums,
            grad_state.totals,
            call.shared(grad_state)[0],
            grad_key,
            grad_value,
            *key.stride()[:2],
            *value.stride()[:2],
            num_tiles,
            *call.scalars,
            call.root,
            **options,
        )
    return grad_key, grad_value
