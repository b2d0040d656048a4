import inspect
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from xtrimogene_kernels import onednn
from xtrimogene_kernels import varlen_attention as varlen
from xtrimogene_kernels.segments import Segments
from xtrimogene_kernels.varlen_attention import blocks, reference, varlen_attention

ONEDNN = pytest.mark.skipif(not onednn.takes(torch.ones(1)), reason="oneDNN's products are for x86 processors")

LENGTHS = [(1,), (7,), (1, 1, 1), (17, 1, 33, 64), (3, 0, 130), (127, 5)]
BLOCK_LENGTHS = [((320,), (320,)), ((7, 513, 0), (7, 513, 5)), ((1_100,), (1_100,)), ((330,), (4_170,))]
CAUSAL_LENGTHS = [((1,), (1,)), ((7, 1), (7, 1)), ((1, 1), (9, 1)), ((5, 0, 33, 2, 0), (6, 4, 33, 130, 0))]


def qkv(num_rows, num_heads=3, width=16, device="cpu"):
    generator = torch.Generator().manual_seed(num_rows)
    return [torch.randn(num_rows, num_heads, width, generator=generator).to(device) for _ in range(3)]


def with_segments(kernel, segments, key_segments=None, **options):
    return lambda query, key, value: kernel(query, key, value, segments, key_segments or segments, **options)


def attend(rows, lengths, **options):
    segments = Segments.from_lengths(lengths)
    return varlen_attention(*rows, segments, segments, **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_sdpa_matches_reference(assert_parity, lengths, dtype):
    segments = Segments.from_lengths(lengths)
    assert_parity(
        with_segments(varlen_attention, segments, implementation="sdpa"),
        with_segments(reference.varlen_attention, segments),
        qkv(segments.num_rows),
        dtype,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("lengths", [((1,), (9,)), ((5, 0, 33, 2), (1, 4, 7, 130))])
def test_sdpa_matches_reference_where_queries_are_other_rows_than_keys(assert_parity, lengths, dtype):
    segments, key_segments = (Segments.from_lengths(part) for part in lengths)
    query, (_, key, value) = qkv(segments.num_rows)[0], qkv(key_segments.num_rows)
    assert_parity(
        with_segments(varlen_attention, segments, key_segments, implementation="sdpa"),
        with_segments(reference.varlen_attention, segments, key_segments),
        [query, key, value],
        dtype,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lengths", CAUSAL_LENGTHS)
def test_causal_sdpa_matches_reference(assert_parity, lengths, dtype):
    segments, key_segments = (Segments.from_lengths(part) for part in lengths)
    query, (_, key, value) = qkv(segments.num_rows)[0], qkv(key_segments.num_rows)
    assert_parity(
        with_segments(varlen_attention, segments, key_segments, causal=True, implementation="sdpa"),
        with_segments(reference.varlen_attention, segments, key_segments, causal=True),
        [query, key, value],
        dtype,
        roundings=4,  # torch's own sums, which run in another order on each processor
    )


@pytest.fixture
def one_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@ONEDNN
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("width", [16, 64])
@pytest.mark.parametrize("lengths", BLOCK_LENGTHS)
def test_blocks_match_reference(assert_parity, lengths, width):
    segments, key_segments = (Segments.from_lengths(part) for part in lengths)
    query, (_, key, value) = qkv(segments.num_rows, 2, width)[0], qkv(key_segments.num_rows, 2, width)
    assert_parity(
        with_segments(varlen_attention, segments, key_segments, implementation="blocks"),
        with_segments(reference.varlen_attention, segments, key_segments),
        [4 * query, key, value],  # sharp enough that a wrong maximum would show
        torch.float32,
        roundings=16,  # sums of a thousand in another order
    )


@ONEDNN
@settings(max_examples=15)
@given(st.data())
def test_blocks_keep_a_cell_from_its_neighbours_to_the_bit(data):
    lengths = data.draw(st.lists(st.sampled_from([3, 640, 700, 1_025]), min_size=1, max_size=3))
    rows = qkv(sum(lengths), 2)
    together = attend(rows, lengths, implementation="blocks")
    cells = zip(*(part.split(lengths) for part in rows), strict=True)
    alone = [attend(cell, (length,), implementation="blocks") for cell, length in zip(cells, lengths, strict=True)]
    assert torch.equal(together, torch.cat(alone))


@ONEDNN
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("scale", [1e-30, 100.0])
def test_blocks_stay_exact_where_scores_are_tiny_or_huge(scale):
    query, key, value = qkv(600)
    ours, theirs = (
        attend((scale * query, key, value), (600,), implementation=form) for form in ("blocks", "reference")
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@ONEDNN
@pytest.mark.usefixtures("one_thread")
def test_blocks_take_long_cells_and_few_shapes(monkeypatch):
    seen, taken = set(), []

    def remember(x, weight):
        seen.add((x.shape, weight.shape))
        return onednn.product(x, weight)

    monkeypatch.setattr(blocks, "product", remember)
    monkeypatch.setattr(blocks.sdpa, "attend", lambda query, key, value, causal: taken.append(len(query)) or query)
    for length in (1, 319, 320, *range(321, 2_500, 97)):
        attend(qkv(length, 1), (length,), implementation="blocks")
    assert taken == [1, 319]
    attend(qkv(400, 1), (400,), implementation="blocks", causal=True)
    assert taken.pop() == 400
    num_sizes = onednn.BLOCK_ROWS // onednn.MULTIPLE
    assert len(seen) <= 8 * num_sizes
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    attend(qkv(1_279, 1), (1_279,), implementation="blocks")
    assert taken == [1, 319, 1_279]


@ONEDNN
def test_auto_takes_blocks_with_avx512(monkeypatch):
    rows = qkv(400)
    segments, asked = Segments.from_lengths([400]), []
    monkeypatch.setitem(varlen._FORMS, "blocks", lambda query, *_, causal: asked.append("blocks") or query)
    for capability, expected in (("AVX512", ["blocks"]), ("AVX2", [])):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda name=capability: name)
        asked.clear()
        varlen_attention(*rows, segments, segments)
        assert asked == expected
        varlen_attention(*(part.double() for part in rows), segments, segments)
        assert asked == expected
    with pytest.raises(ValueError, match="'blocks' needs float32 on an x86 processor, .* not torch.float64 on cpu"):
        attend([part.double() for part in rows], (400,), implementation="blocks")


def test_a_compiler_is_not_asked_what_it_cannot_answer(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: pytest.fail("asked"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: pytest.fail("asked"))
    attend(qkv(400), (400,))
    assert onednn.num_threads() == 1


@pytest.mark.parametrize("implementation", ["sdpa", "reference"])
@pytest.mark.parametrize("lengths", CAUSAL_LENGTHS)
def test_a_causal_query_is_a_full_one_over_the_keys_it_sees(lengths, implementation):
    query, (_, key, value) = qkv(sum(lengths[0]))[0].double(), (rows.double() for rows in qkv(sum(lengths[1])))
    query_segments, key_segments = (Segments.from_lengths(part) for part in lengths)
    out = varlen_attention(query, key, value, query_segments, key_segments, causal=True, implementation=implementation)
    row = 0
    for keys, values, m, n in zip(key.split(lengths[1]), value.split(lengths[1]), *lengths, strict=True):
        for i in range(m):
            one, seen = Segments.from_lengths([1]), Segments.from_lengths([n - m + i + 1])
            cut = slice(0, n - m + i + 1)
            alone = reference.varlen_attention(query[row : row + 1], keys[cut], values[cut], one, seen)
            torch.testing.assert_close(out[row : row + 1], alone)
            row += 1
    assert row == len(query)


def test_causality_is_asked_of_torchs_own_kernel_in_the_words_of_its_release(monkeypatch):
    from xtrimogene_kernels.varlen_attention import torch_varlen

    def newer(query, key, value, cu_q, cu_k, max_q, max_k, *, window_size=(-1, -1)):
        return query.new_full(query.shape, window_size[1])

    def older(query, key, value, cu_q, cu_k, max_q, max_k, is_causal=False):
        return query.new_full(query.shape, 0.0 if is_causal else -1.0)

    rows, segments = qkv(4), Segments.from_lengths([4])
    for release in (newer, older):
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", release)
        assert (torch_varlen.varlen_attention(*rows, segments, segments, causal=True) == 0).all()
        assert (torch_varlen.varlen_attention(*rows, segments, segments) == -1).all()


def test_sdpa_reads_views_of_a_fused_projection(assert_parity):
    segments = Segments.from_lengths((9, 4))
    fused = torch.randn(13, 3, 2, 8)

    def on_views(kernel):
        return lambda rows: kernel(*rows.unbind(1), segments, segments)

    assert_parity(on_views(varlen_attention), on_views(reference.varlen_attention), [fused], torch.float32)


@pytest.mark.parametrize("query_lengths", [(2, 3), (4, 1)])
def test_reference_is_softmax_attention(query_lengths):
    query, key, value = (rows.double() for rows in qkv(5))
    segments = Segments.from_lengths(query_lengths)
    out = reference.varlen_attention(query, key, value, segments, Segments.from_lengths((2, 3)))
    for head in range(3):
        for row in range(5):
            cell = slice(0, 2) if row < query_lengths[0] else slice(2, 5)
            weights = torch.exp(key[cell, head] @ query[row, head] / 4)
            torch.testing.assert_close(out[row, head], weights @ value[cell, head] / weights.sum())


@settings(max_examples=25)
@given(st.data())
def test_a_cell_ignores_its_neighbours_and_their_order(data):
    lengths = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=6))
    order = data.draw(st.permutations(range(len(lengths))))
    rows = qkv(sum(lengths))
    together = attend(rows, lengths).split(lengths)
    cells = list(zip(*(tensor.split(lengths) for tensor in rows), strict=True))
    shuffled = [torch.cat([cells[i][j] for i in order]) for j in range(3)]
    out = attend(shuffled, [lengths[i] for i in order])
    for position, part in zip(order, out.split([lengths[i] for i in order]), strict=True):
        alone = attend(cells[position], [lengths[position]])
        torch.testing.assert_close(part, alone, atol=1e-6, rtol=0)
        torch.testing.assert_close(part, together[position], atol=1e-6, rtol=0)


def test_no_cells_give_no_rows():
    assert attend(qkv(0), []).shape == (0, 3, 16)
    assert attend(qkv(0), [0, 0]).shape == (0, 3, 16)


def test_flops_of_the_reference_are_counted():
    segments = Segments.from_lengths((10, 30))
    with FlopCounterMode(display=False) as counter:  # counts nothing for a CPU's scaled_dot_product_attention
        varlen_attention(*qkv(40), segments, segments, implementation="reference")
    assert counter.get_total_flops() == 4 * 3 * 16 * (10**2 + 30**2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_is_sdpa_on_a_cpu_without_avx512(monkeypatch, dtype):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setitem(varlen._FORMS, "sdpa", lambda query, *others, **options: torch.full_like(query, 7))
    out = attend([rows.to(dtype) for rows in qkv(4)], [4])
    assert (out == 7).all()


@pytest.mark.parametrize("implementation", ["torch_varlen", "flash_attn"])
def test_gpu_forms_refuse_a_cpu(implementation):
    with pytest.raises(ValueError, match=r"needs bfloat16 or float16 on CUDA, not torch.float32 on cpu"):
        attend(qkv(4), [4], implementation=implementation)


def test_missing_flash_attn_says_how_to_get_it(monkeypatch):
    from xtrimogene_kernels.varlen_attention import flash_attn

    monkeypatch.setitem(sys.modules, "flash_attn", None)
    with pytest.raises(ImportError, match="pip install flash-attn"):
        flash_attn.varlen_attention(*qkv(4), Segments.from_lengths([4]), Segments.from_lengths([4]))


def test_disagreeing_arguments_are_refused():
    unchecked = inspect.unwrap(varlen_attention)  # without the shape checks that only tests switch on
    query, key, value = qkv(6)
    segments = Segments.from_lengths([2, 4])
    with pytest.raises(ValueError, match="query has 6 rows but its segments hold 5"):
        unchecked(query, key, value, Segments.from_lengths([2, 3]), segments)
    with pytest.raises(ValueError, match=r"key must have shape \(N, H, d\) = \(6, 3, 16\), not \(6, 2, 16\)"):
        unchecked(query, key[:, :2], value, segments, segments)
    with pytest.raises(ValueError, match=r"value must have shape \(N, H, d\) = \(6, 3, 16\), not \(5, 3, 16\)"):
        unchecked(query, key, value[:5], segments, segments)
    with pytest.raises(ValueError, match="key has 5 rows but its segments hold 6"):
        unchecked(query, key[:5], value[:5], segments, segments)
    with pytest.raises(ValueError, match=r"value must be torch.float32 on cpu like query, not torch.float64"):
        unchecked(query, key, value.double(), segments, segments)
    with pytest.raises(ValueError, match=r"query must have shape \(M, H, d\), not \(6, 48\)"):
        unchecked(query.flatten(1), key, value, segments, segments)
    with pytest.raises(ValueError, match="every cell with queries needs a key, but cell 1 has none"):
        unchecked(query, key, value, segments, Segments.from_lengths([6, 0]))
    with pytest.raises(ValueError, match="at least as many keys as queries in every cell, but cell 1 has 3 and 4"):
        unchecked(query, key, value, segments, Segments.from_lengths([3, 3]), causal=True)
    with pytest.raises(ValueError, match="query and key must hold the same cells, but their segments hold 2 and 1"):
        unchecked(query, key, value, segments, Segments.from_lengths([6]))
    with pytest.raises(ValueError, match="query must be floating point"):
        unchecked(query.long(), key.long(), value.long(), segments, segments)
    with pytest.raises(ValueError, match="implementation must be one of auto, reference, sdpa"):
        unchecked(query, key, value, segments, segments, implementation="fast")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lengths", [(1,), (17, 1, 33, 64), (127, 5, 1500)])
def test_auto_matches_reference_on_cuda(assert_parity, lengths, dtype):
    segments = Segments.from_lengths(lengths, "cuda")
    assert_parity(
        with_segments(varlen_attention, segments),
        with_segments(reference.varlen_attention, segments),
        qkv(segments.num_rows, width=64, device="cuda"),
        dtype,
    )


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lengths", [*CAUSAL_LENGTHS, ((127, 300, 5), (127, 1024, 700))])
def test_causal_auto_matches_reference_on_cuda(assert_parity, lengths, dtype):
    segments, key_segments = (Segments.from_lengths(part, "cuda") for part in lengths)
    query = qkv(segments.num_rows, width=64, device="cuda")[0]
    _, key, value = qkv(key_segments.num_rows, width=64, device="cuda")
    assert_parity(
        with_segments(varlen_attention, segments, key_segments, causal=True),
        with_segments(reference.varlen_attention, segments, key_segments, causal=True),
        [query, key, value],
        dtype,
    )


@pytest.mark.parametrize("implementation", ["sdpa", "reference"])
def test_nothing_asked_still_has_gradients(implementation):
    """Devices that exchange gradients wait for those of every weight."""
    query, key, value = (rows.requires_grad_() for rows in qkv(5))
    asked, keys = Segments.from_lengths((0, 0)), Segments.from_lengths((3, 2))
    out = varlen_attention(query[:0], key, value, asked, keys, implementation=implementation)
    assert out.shape == (0, 3, 16)
    out.sum().backward()
    assert all(rows.grad is not None and not rows.grad.any() for rows in (query, key, value))
