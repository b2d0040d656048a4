"""Who sees whom: worked out by hand, and by which token changes which answer."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.protein.network.prefix_mask import PrefixMask, prefix_attention

SEEN = {  # of five tokens, rows are queries
    0: ["x....", "xx...", "xxx..", "xxxx.", "xxxxx"],
    2: ["xx...", "xx...", "xxx..", "xxxx.", "xxxxx"],
    4: ["xxxx.", "xxxx.", "xxxx.", "xxxx.", "xxxxx"],
    5: ["xxxxx"] * 5,
}


def written_out(prefix_length: int, length: int) -> torch.Tensor:
    rows, columns = np.indices((length, length))
    return torch.from_numpy((columns <= rows) | ((columns < prefix_length) & (rows < prefix_length)))


@pytest.mark.parametrize("prefix_length", SEEN)
def test_a_prefix_sees_itself_and_what_follows_sees_what_came_before(prefix_length: int) -> None:
    expected = torch.tensor([[letter == "x" for letter in row] for row in SEEN[prefix_length]])
    assert torch.equal(written_out(prefix_length, 5), expected)
    mask = PrefixMask.from_lengths([3, 5, 1], [1, prefix_length, 1])
    query, key = torch.randn(2, 9, 1, 4, dtype=torch.float64)
    # one value is a one and all others are zeros: a row is the weights of a query's keys
    for column in range(5):
        value = torch.zeros(9, 1, 4, dtype=torch.float64)
        value[3 + column] = 1.0
        weights = prefix_attention(query, key, value, mask)[:, 0, 0]
        assert torch.equal(weights[3:8] > 0, expected[:, column])
        assert (weights[:3] == 0).all() and weights[8] == 0, "no other sequence sees it"


@given(st.data())
def test_any_mix_of_prefixes_is_attention_under_the_mask(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=5))
    prefixes = [data.draw(st.integers(0, length)) for length in lengths]
    mask = PrefixMask.from_lengths(lengths, prefixes)
    generator = torch.Generator().manual_seed(sum(lengths))
    query, key, value = torch.randn(3, sum(lengths), 2, 4, dtype=torch.float64, generator=generator)
    out = prefix_attention(query, key, value, mask)
    parts = (rows.split(lengths) for rows in (query, key, value, out))
    for q, k, v, o, length, prefix in zip(*parts, lengths, prefixes, strict=True):
        if length:
            scores = torch.einsum("qhd,khd->hqk", q, k) / 2
            weights = scores.masked_fill(~written_out(prefix, length), -torch.inf).softmax(-1)
            torch.testing.assert_close(o, torch.einsum("hqk,khd->qhd", weights, v))


def test_rows_of_one_kind_are_not_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefixes in ([3, 4], [0, 0]):
        mask = PrefixMask.from_lengths([3, 4], prefixes)
        assert mask.order is None and mask.place is None
    assert PrefixMask.from_lengths([3, 4], [3, 0]).order.tolist() == [0, 1, 2, 3, 4, 5, 6]  # type: ignore[union-attr]
    assert PrefixMask.from_lengths([3, 4], [1, 2]).order.tolist() == [0, 3, 4, 1, 2, 5, 6]  # type: ignore[union-attr]


def test_a_mask_moves_whole() -> None:
    moved = PrefixMask.from_lengths([3, 4], [1, 2]).to("meta")
    assert moved.order is not None and moved.place is not None
    tensors = [part.cu_seqlens for part in (moved.segments, moved.prefix, moved.suffix)]
    assert all(tensor.is_meta for tensor in (*tensors, moved.order, moved.place))


def test_a_later_token_never_changes_an_earlier_answer(make_example: Callable, tiny: Callable) -> None:
    from dataclasses import replace

    from xtrimogene.protein.network.packed_sequences import PackedSequences

    example = make_example(9, 4)
    before = tiny(PackedSequences.from_examples([example]))
    for place in range(9):
        tokens = example.token_ids.copy()
        tokens[place] = (tokens[place] + 1) % 40
        after = tiny(PackedSequences.from_examples([replace(example, token_ids=tokens)]))
        changed = (after - before).abs().amax(1) > 1e-7
        first = 0 if place < 4 else place
        assert changed.tolist() == [row >= first for row in range(9)]
