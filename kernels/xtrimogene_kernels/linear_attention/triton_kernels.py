"""The kernels of `triton.py`, in Triton's language: each makes a tile of features in registers, uses it and drops it.

Exponents are in units of log 2, for `exp2`: u = ``slope`` x P t and g = ``curve`` |t|^2. A tile is rows x features; in
`key_state` and `state_backward` the features stand still and rows go by, elsewhere the other way round. Sums of
features x rows are made by whole programs and joined by `join_states`: there are no atomics, so a result never changes
from run to run nor with a cell's neighbours. ``bounds`` are cu_seqlens; a program past the end of its cell has no work.

Letters: n rows of a tile, f features of a tile, C tiles of features; d width of a head, D its power of two; B cells,
H heads, S spans of the longest cell.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl

DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16}


@no_type_check
@triton.jit
def exponents(rows, projection, valid, slope, curve, PRECISION: tl.constexpr):
    """Return u (-inf where not valid) and g of a tile: (n, f) and (n,)."""
    u = tl.dot(rows.to(projection.dtype), tl.trans(projection), input_precision=PRECISION) * slope
    wide = rows.to(tl.float32)
    return tl.where(valid, u, float("-inf")), tl.sum(wide * wide, 1) * curve


@no_type_check
@triton.jit
def rows_of_span(bounds, span, num_spans, SPAN: tl.constexpr):
    """Return the first row and the one after the last; the first is the larger where the cell has no such span."""
    cell = span // num_spans
    start = tl.load(bounds + cell) + span % num_spans * SPAN
    return start, tl.minimum(start + SPAN, tl.load(bounds + cell + 1))


@no_type_check
@triton.jit
def load_rows(start, rows, row_stride, columns, inside):
    return tl.load(start + rows.to(tl.int64)[:, None] * row_stride + columns[None, :], mask=inside, other=0.0)


@no_type_check
@triton.jit
def load_features(start, features, columns, num_features, width, row_stride):
    inside = (features < num_features)[:, None] & (columns < width)[None, :]
    return tl.load(start + features[:, None] * row_stride + columns[None, :], mask=inside, other=0.0)


@no_type_check
@triton.jit
def key_state(
    key,
    value,
    projection,
    bounds,  # (B + 1,)
    sums,  # (B, S, H, C f, D), out
    totals,  # (B, S, H, C f), out
    value_sums,  # (B, S, H, D), out
    row_totals,  # (B, S, H), out
    maxima,  # (B, S, H, C), out
    key_stride,
    key_head,
    value_stride,
    value_head,
    num_spans,
    num_features,
    width,
    slope,
    curve,
    SPAN: tl.constexpr,
    ROWS: tl.constexpr,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    CHUNKS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Sum features x [value, 1] over the keys of a span, under the largest u met, and [value, 1] itself."""
    chunk, span, head = tl.program_id(0) % CHUNKS, tl.program_id(0) // CHUNKS, tl.program_id(1)
    start, stop = rows_of_span(bounds, span, num_spans, SPAN)
    if start >= stop:
        return
    columns, features = tl.arange(0, WIDTH), chunk * FEATURES + tl.arange(0, FEATURES)
    projected = load_features(projection, features, columns, num_features, width, width)  # (f, D)
    sum_ = tl.zeros((FEATURES, WIDTH), tl.float32)
    total = tl.zeros((FEATURES,), tl.float32)
    value_sum = tl.zeros((WIDTH,), tl.float32)
    maximum = float("-inf")
    for first in range(start, stop, ROWS):
        rows = first + tl.arange(0, ROWS)
        inside = (rows < stop)[:, None] & (columns < width)[None, :]
        k = load_rows(key + head * key_head, rows, key_stride, columns, inside)
        v = load_rows(value + head * value_head, rows, value_stride, columns, inside)
        valid = (rows < stop)[:, None] & (features < num_features)[None, :]
        u, g = exponents(k, projected, valid, slope, curve, PRECISION)
        before = maximum
        maximum = tl.maximum(maximum, tl.max(u))
        feature = tl.exp2(u - g[:, None] - maximum).to(v.dtype)  # (n, f), epsilon left out
        rescale = tl.exp2(before - maximum)
        sum_ = sum_ * rescale + tl.dot(tl.trans(feature), v, input_precision=PRECISION)
        total = total * rescale + tl.sum(feature.to(tl.float32), 0)
        value_sum += tl.sum(v.to(tl.float32), 0)
    place = (span * tl.num_programs(1) + head).to(tl.int64)
    padded = CHUNKS * FEATURES
    tl.store(sums + (place * padded + features[:, None]) * WIDTH + columns[None, :], sum_)
    tl.store(totals + place * padded + features, total)
    tl.store(maxima + place * CHUNKS + chunk, maximum)
    if chunk == 0:
        tl.store(value_sums + place * WIDTH + columns, value_sum)
        tl.store(row_totals + place, (stop - start).to(tl.float32))


@no_type_check
@triton.jit
def join_states(
    sums,  # (B, S, H, C f, D)
    totals,  # (B, S, H, C f)
    row_sums,  # (B, S, H, D)
    row_totals,  # (B, S, H)
    maxima,  # (B, S, H, C)
    bounds,  # (B + 1,)
    state,  # (B, H, C f, D), out
    state_totals,  # (B, H, C f), out
    cell_maxima,  # (B,), out
    centres,  # (B, H, D), out where CENTRED
    num_spans,
    num_features,
    epsilon,
    SPAN: tl.constexpr,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    CHUNKS: tl.constexpr,
    MAXIMA: tl.constexpr,  # a power of two that holds those of a span, H C
    CENTRED: tl.constexpr,
):
    """Sum what the spans of a cell hold, under the largest of their maxima, and add what epsilon does.

    CENTRED: rows count from their mean over the cell, which is returned.
    """
    chunk, cell, head = tl.program_id(0) % CHUNKS, tl.program_id(0) // CHUNKS, tl.program_id(1)
    num_heads = tl.num_programs(1)
    first = cell * num_spans
    last = first + tl.cdiv(tl.load(bounds + cell + 1) - tl.load(bounds + cell), SPAN)
    columns, features = tl.arange(0, WIDTH), chunk * FEATURES + tl.arange(0, FEATURES)
    every = tl.arange(0, MAXIMA)
    some = every < num_heads * CHUNKS
    maximum = float("-inf")
    for span in range(first, last):
        found = tl.load(maxima + span * num_heads * CHUNKS + every, mask=some, other=float("-inf"))
        maximum = tl.maximum(maximum, tl.max(found))
    sum_ = tl.zeros((FEATURES, WIDTH), tl.float32)
    total = tl.zeros((FEATURES,), tl.float32)
    row_sum = tl.zeros((WIDTH,), tl.float32)
    num_rows = 0.0
    for span in range(first, last):
        place = (span * num_heads + head).to(tl.int64)
        at = place * CHUNKS * FEATURES + features
        weight = tl.exp2(tl.load(maxima + place * CHUNKS + chunk) - maximum)
        sum_ += tl.load(sums + at[:, None] * WIDTH + columns[None, :]) * weight
        total += tl.load(totals + at) * weight
        row_sum += tl.load(row_sums + place * WIDTH + columns)
        num_rows += tl.load(row_totals + place)
    if CENTRED:
        centre = row_sum / num_rows
        sum_ -= total[:, None] * centre[None, :]
        if chunk == 0:
            tl.store(centres + (cell * num_heads + head).to(tl.int64) * WIDTH + columns, centre)
    else:
        sum_ += row_sum[None, :] * epsilon
    total += num_rows * epsilon
    valid = features < num_features
    at = (cell * num_heads + head).to(tl.int64) * CHUNKS * FEATURES + features
    tl.store(state + at[:, None] * WIDTH + columns[None, :], tl.where(valid[:, None], sum_, 0.0))
    tl.store(state_totals + at, tl.where(valid, total, 0.0))
    if (chunk == 0) & (head == 0):
        tl.store(cell_maxima + cell, maximum)


@no_type_check
@triton.jit
def query_output(
    query,
    projection,
    bounds,  # (B + 1,)
    state,  # (B, H, C f, D)
    totals,  # (B, H, C f)
    shared,  # (B, H, D): what epsilon gives every query
    shared_totals,  # (B, H)
    centres,  # (B, H, D)
    output,  # (M, H, d), out
    centred,  # (M, H, d), out: the output less the centre
    normalizers,  # (M, H), out
    stabilizers,  # (M, H), out
    query_stride,
    query_head,
    num_tiles,
    num_features,
    width,
    slope,
    curve,
    ROWS: tl.constexpr,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    CHUNKS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Read the state of its cell with each query, under a running row maximum."""
    cell, tile = tl.program_id(0) // num_tiles, tl.program_id(0) % num_tiles
    head, num_heads = tl.program_id(1), tl.num_programs(1)
    start, stop = tl.load(bounds + cell) + tile * ROWS, tl.load(bounds + cell + 1)
    if start >= stop:
        return
    rows, columns = start + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    inside = (rows < stop)[:, None] & (columns < width)[None, :]
    q = load_rows(query + head * query_head, rows, query_stride, columns, inside)
    place = (cell * num_heads + head).to(tl.int64)
    sum_ = tl.zeros((ROWS, WIDTH), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    maximum = tl.full((ROWS,), float("-inf"), tl.float32)
    wide = q.to(tl.float32)
    damping = tl.exp2(tl.sum(wide * wide, 1) * -curve)  # (n,), the g of each row
    for chunk in range(CHUNKS):
        features = chunk * FEATURES + tl.arange(0, FEATURES)
        projected = load_features(projection, features, columns, num_features, width, width)  # (f, D)
        u, _ = exponents(q, projected, (features < num_features)[None, :], slope, curve, PRECISION)
        before = maximum
        maximum = tl.maximum(maximum, tl.max(u, 1))
        at = place * CHUNKS * FEATURES + features
        sums = tl.load(state + at[:, None] * WIDTH + columns[None, :])  # (f, D)
        feature = tl.exp2(u - maximum[:, None]).to(sums.dtype)  # (n, f)
        rescale = tl.exp2(before - maximum)
        sum_ = sum_ * rescale[:, None] + tl.dot(feature, sums, input_precision=PRECISION)
        total = total * rescale + tl.sum(feature.to(tl.float32) * tl.load(totals + at)[None, :], 1)
    sum_ = sum_ * damping[:, None] + tl.load(shared + place * WIDTH + columns)[None, :]
    total = total * damping + tl.load(shared_totals + place)
    target = rows.to(tl.int64) * num_heads + head
    answer = sum_ / total[:, None]
    tl.store(centred + target[:, None] * width + columns[None, :], answer, mask=inside)
    answer += tl.load(centres + place * WIDTH + columns)[None, :]
    tl.store(output + target[:, None] * width + columns[None, :], answer, mask=inside)
    tl.store(normalizers + target, total, mask=rows < stop)
    tl.store(stabilizers + target, maximum, mask=rows < stop)


@no_type_check
@triton.jit
def query_backward(
    query,
    projection,
    bounds,  # (B + 1,)
    state,  # (B, H, C f, D)
    totals,  # (B, H, C f)
    centred,  # (M, H, d)
    normalizers,  # (M, H)
    stabilizers,  # (M, H)
    grad_output,  # (M, H, d)
    grad_query,  # (M, H, d), out
    grad_normalizers,  # (M, H), out
    query_stride,
    query_head,
    num_tiles,
    num_features,
    width,
    slope,
    curve,
    root,  # d^-1/4
    ROWS: tl.constexpr,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    CHUNKS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the gradient of each query and of its normalizer."""
    cell, tile = tl.program_id(0) // num_tiles, tl.program_id(0) % num_tiles
    head, num_heads = tl.program_id(1), tl.num_programs(1)
    start, stop = tl.load(bounds + cell) + tile * ROWS, tl.load(bounds + cell + 1)
    if start >= stop:
        return
    rows, columns = start + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    inside = (rows < stop)[:, None] & (columns < width)[None, :]
    q = load_rows(query + head * query_head, rows, query_stride, columns, inside)
    target = rows.to(tl.int64) * num_heads + head
    normalizer = tl.load(normalizers + target, mask=rows < stop, other=1.0)
    stabilizer = tl.load(stabilizers + target, mask=rows < stop, other=0.0)
    out = tl.load(centred + target[:, None] * width + columns[None, :], mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_output + target[:, None] * width + columns[None, :], mask=inside, other=0.0).to(tl.float32)
    of_total = -tl.sum(grad * out, 1) / normalizer  # (n,)
    tl.store(grad_normalizers + target, of_total, mask=rows < stop)
    grad = (grad / normalizer[:, None]).to(state.dtype.element_ty)  # (n, D)
    place = (cell * num_heads + head).to(tl.int64)
    sum_ = tl.zeros((ROWS, WIDTH), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for chunk in range(CHUNKS):
        features = chunk * FEATURES + tl.arange(0, FEATURES)
        projected = load_features(projection, features, columns, num_features, width, width)  # (f, D)
        u, g = exponents(q, projected, (features < num_features)[None, :], slope, curve, PRECISION)
        at = place * CHUNKS * FEATURES + features
        sums = tl.load(state + at[:, None] * WIDTH + columns[None, :])  # (f, D)
        of_feature = tl.dot(grad, tl.trans(sums), input_precision=PRECISION)
        of_feature += of_total[:, None] * tl.load(totals + at)[None, :]  # (n, f)
        of_exponent = of_feature * tl.exp2(u - g[:, None] - stabilizer[:, None])
        total += tl.sum(of_exponent, 1)
        projected = projected.to(sums.dtype)
        sum_ += tl.dot(of_exponent.to(sums.dtype), projected, input_precision=PRECISION)
    result = sum_ * root - q.to(tl.float32) * (total * root * root)[:, None]
    tl.store(grad_query + target[:, None] * width + columns[None, :], result, mask=inside)


@no_type_check
@triton.jit
def state_backward(
    query,
    projection,
    bounds,  # (B + 1,)
    normalizers,  # (M, H)
    stabilizers,  # (M, H)
    grad_output,  # (M, H, d)
    grad_normalizers,  # (M, H)
    sums,  # (B, S, H, C f, D), out
    totals,  # (B, S, H, C f), out
    row_sums,  # (B, S, H, D), out
    row_totals,  # (B, S, H), out
    query_stride,
    query_head,
    num_spans,
    num_features,
    width,
    slope,
    curve,
    SPAN: tl.constexpr,
    ROWS: tl.constexpr,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    CHUNKS: tl.constexpr,
    PRECISION: tl.constexpr,
    DTYPE: tl.constexpr,  # of what is multiplied
):
    """Sum features x the gradient of [sums, normalizer] over the queries of a span, and the gradient itself."""
    chunk, span, head = tl.program_id(0) % CHUNKS, tl.program_id(0) // CHUNKS, tl.program_id(1)
    start, stop = rows_of_span(bounds, span, num_spans, SPAN)
    if start >= stop:
        return
    num_heads = tl.num_programs(1)
    columns, features = tl.arange(0, WIDTH), chunk * FEATURES + tl.arange(0, FEATURES)
    projected = load_features(projection, features, columns, num_features, width, width)  # (f, D)
    sum_ = tl.zeros((FEATURES, WIDTH), tl.float32)
    total = tl.zeros((FEATURES,), tl.float32)
    row_sum = tl.zeros((WIDTH,), tl.float32)
    row_total = tl.zeros((ROWS,), tl.float32)
    for first in range(start, stop, ROWS):
        rows = first + tl.arange(0, ROWS)
        inside = (rows < stop)[:, None] & (columns < width)[None, :]
        q = load_rows(query + head * query_head, rows, query_stride, columns, inside)
        target = rows.to(tl.int64) * num_heads + head
        normalizer = tl.load(normalizers + target, mask=rows < stop, other=1.0)
        stabilizer = tl.load(stabilizers + target, mask=rows < stop, other=0.0)
        of_total = tl.load(grad_normalizers + target, mask=rows < stop, other=0.0)
        grad = tl.load(grad_output + target[:, None] * width + columns[None, :], mask=inside, other=0.0)
        grad = grad.to(tl.float32) / normalizer[:, None]
        valid = (rows < stop)[:, None] & (features < num_features)[None, :]
        u, g = exponents(q, projected, valid, slope, curve, PRECISION)
        feature = tl.exp2(u - g[:, None] - stabilizer[:, None])  # (n, f), epsilon left out
        sum_ += tl.dot(tl.trans(feature.to(DTYPE)), grad.to(DTYPE), input_precision=PRECISION)
        total += tl.sum(feature * of_total[:, None], 0)
        row_sum += tl.sum(grad, 0)
        row_total += of_total
    place = (span * num_heads + head).to(tl.int64)
    padded = CHUNKS * FEATURES
    tl.store(sums + (place * padded + features[:, None]) * WIDTH + columns[None, :], sum_)
    tl.store(totals + place * padded + features, total)
    if chunk == 0:
        tl.store(row_sums + place * WIDTH + columns, row_sum)
        tl.store(row_totals + place, tl.sum(row_total))


@no_type_check
@triton.jit
def key_backward(
    key,
    value,
    projection,
    bounds,  # (B + 1,)
    cell_maxima,  # (B,)
    centres,  # (B, H, D)
    grad_state,  # (B, H, C f, D)
    grad_totals,  # (B, H, C f)
    shared,  # (B, H, D): what epsilon gives every value
    grad_key,  # (N, H, d), out
    grad_value,  # (N, H, d), out
    key_stride,
    key_head,
    value_stride,
    value_head,
    num_tiles,
    num_features,
    width,
    slope,
    curve,
    root,  # d^-1/4
    ROWS: tl.constexpr,
    FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    CHUNKS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the gradients of each key and value."""
    cell, tile = tl.program_id(0) // num_tiles, tl.program_id(0) % num_tiles
    head, num_heads = tl.program_id(1), tl.num_programs(1)
    start, stop = tl.load(bounds + cell) + tile * ROWS, tl.load(bounds + cell + 1)
    if start >= stop:
        return
    rows, columns = start + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    inside = (rows < stop)[:, None] & (columns < width)[None, :]
    k = load_rows(key + head * key_head, rows, key_stride, columns, inside)
    v = load_rows(value + head * value_head, rows, value_stride, columns, inside)
    place = (cell * num_heads + head).to(tl.int64)
    v = (v.to(tl.float32) - tl.load(centres + place * WIDTH + columns)[None, :]).to(grad_state.dtype.element_ty)
    maximum = tl.load(cell_maxima + cell)
    of_value = tl.zeros((ROWS, WIDTH), tl.float32)
    sum_ = tl.zeros((ROWS, WIDTH), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for chunk in range(CHUNKS):
        features = chunk * FEATURES + tl.arange(0, FEATURES)
        projected = load_features(projection, features, columns, num_features, width, width)  # (f, D)
        u, g = exponents(k, projected, (features < num_features)[None, :], slope, curve, PRECISION)
        feature = tl.exp2(u - g[:, None] - maximum)  # (n, f), epsilon left out
        at = place * CHUNKS * FEATURES + features
        sums = tl.load(grad_state + at[:, None] * WIDTH + columns[None, :])  # (f, D)
        of_value += tl.dot(feature.to(sums.dtype), sums, input_precision=PRECISION)
        of_feature = tl.dot(v, tl.trans(sums), input_precision=PRECISION) + tl.load(grad_totals + at)[None, :]
        of_exponent = of_feature * feature
        total += tl.sum(of_exponent, 1)
        projected = projected.to(sums.dtype)
        sum_ += tl.dot(of_exponent.to(sums.dtype), projected, input_precision=PRECISION)
    target = rows.to(tl.int64) * num_heads + head
    of_value += tl.load(shared + place * WIDTH + columns)[None, :]
    tl.store(grad_value + target[:, None] * width + columns[None, :], of_value, mask=inside)
    of_key = sum_ * root - k.to(tl.float32) * (total * root * root)[:, None]
    tl.store(grad_key + target[:, None] * width + columns[None, :], of_key, mask=inside)
