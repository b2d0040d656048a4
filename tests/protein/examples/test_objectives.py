"""Layouts worked out by hand, and what holds for every draw."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError
from xtrimogene.protein.config import ObjectiveStage, SpanMaskingConfig, TokenMaskingConfig
from xtrimogene.protein.examples.blank_infilling import draw_spans, fill_blanks, predict_suffix
from xtrimogene.protein.examples.example import IGNORED, Example
from xtrimogene.protein.examples.objectives import draw_example, mask_letters, num_targets, predict_next
from xtrimogene.protein.tokenizer import ProteinTokenizer

OURS, ESM = ProteinTokenizer.xtrimopglm(), ProteinTokenizer.esm()
MASK, GMASK, SMASK, SOP, EOP, EOS = 28, 29, 30, 32, 33, 34
NONE = IGNORED


def ids(*tokens: int) -> np.ndarray:
    return np.asarray(tokens, np.int64)


def rows(example: Example) -> list[tuple[int, int, int, int]]:
    """Token, both positions, label."""
    columns = (example.token_ids, *example.positions.T, example.labels)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_two_blanks_filled_in_shuffled_order() -> None:
    piece = ids(1, 2, 3, 4, 5, 6, 7, 8, EOS)
    example = fill_blanks(piece, [(1, 3), (5, 6)], ids(1, 0), OURS)
    assert rows(example) == [
        # the source: 1 [2 3] 4 5 [6] 7 8 eos
        (1, 0, 0, NONE),
        (SMASK, 1, 0, NONE),
        (4, 2, 0, NONE),
        (5, 3, 0, NONE),
        (SMASK, 4, 0, NONE),
        (7, 5, 0, NONE),
        (8, 6, 0, NONE),
        (EOS, 7, 0, NONE),
        # the second blank
        (SOP, 4, 1, 6),
        (6, 4, 2, EOP),
        # the first
        (SOP, 1, 1, 2),
        (2, 1, 2, 3),
        (3, 1, 3, EOP),
    ]
    assert example.prefix_length == 8


def test_blanks_at_both_ends_of_a_piece_that_ends_no_sequence() -> None:
    example = fill_blanks(ids(1, 2, 3, 4), [(0, 1), (3, 4)], ids(0, 1), OURS)
    assert example.token_ids.tolist() == [SMASK, 2, 3, SMASK, SOP, 1, SOP, 4]
    assert example.labels.tolist() == [NONE] * 4 + [1, EOP, 4, EOP]
    assert example.positions.tolist() == [[0, 0], [1, 0], [2, 0], [3, 0], [0, 1], [0, 2], [3, 1], [3, 2]]
    assert example.prefix_length == 4


def test_a_suffix() -> None:
    example = predict_suffix(ids(1, 2, 3, 4, 5, EOS), 2, OURS)
    assert rows(example) == [
        (1, 0, 0, NONE),
        (2, 1, 0, NONE),
        (GMASK, 2, 0, NONE),
        (SOP, 2, 1, 3),
        (3, 2, 2, 4),
        (4, 2, 3, 5),
        (5, 2, 4, EOS),
    ]
    assert example.prefix_length == 3


def test_a_suffix_may_be_all_of_the_piece_or_its_last_token() -> None:
    whole = predict_suffix(ids(1, 2, 3), 0, OURS)
    assert (whole.token_ids.tolist(), whole.labels.tolist()) == ([GMASK, SOP, 1, 2], [NONE, 1, 2, 3])
    last = predict_suffix(ids(1, 2, EOS), 2, OURS)
    assert (last.token_ids.tolist(), last.labels.tolist()) == ([1, 2, GMASK, SOP], [NONE, NONE, NONE, EOS])


def test_the_next_token() -> None:
    first = predict_next(ids(1, 2, EOS), OURS, starts=True)
    assert rows(first) == [(SOP, 0, 0, 1), (1, 1, 0, 2), (2, 2, 0, EOS)]
    assert first.prefix_length == 0
    assert rows(predict_next(ids(1, 2, EOS), OURS, starts=False)) == [(1, 0, 0, 2), (2, 1, 0, EOS)]
    framed = ESM.frame(ESM.encode("LA"))
    assert rows(predict_next(framed, ESM, starts=True)) == [(0, 0, 0, 4), (4, 1, 0, 5), (5, 2, 0, 2)]


@given(st.integers(1, 300), st.integers(0, 2**32), st.sampled_from([OURS, ESM]))
def test_mlm_hides_a_share_of_the_letters_in_place(num_letters: int, seed: int, tokenizer: ProteinTokenizer) -> None:
    random = np.random.default_rng(seed)
    piece = tokenizer.frame(random.choice(tokenizer.standard, num_letters))
    example = mask_letters(piece, tokenizer, TokenMaskingConfig(), random)
    asked = example.labels != NONE
    assert num_targets(example) == asked.sum() == max(1, round(0.15 * num_letters))
    assert tokenizer.is_letter(piece[asked]).all()
    assert (example.labels[asked] == piece[asked]).all()
    assert (example.token_ids[~asked] == piece[~asked]).all()
    assert np.isin(example.token_ids[asked], [*tokenizer.standard, tokenizer.mark("mask")]).all()
    assert example.positions.tolist() == [[i, 0] for i in range(len(piece))]
    assert example.prefix_length == len(piece)


def test_of_the_hidden_letters_four_fifths_are_masked_and_a_tenth_is_kept() -> None:
    random = np.random.default_rng(0)
    piece = random.choice(OURS.standard, 200_000)
    example = mask_letters(piece, OURS, TokenMaskingConfig(), random)
    asked = example.labels != NONE
    read, true = example.token_ids[asked], piece[asked]
    assert asked.mean() == 0.15
    assert (read == MASK).mean() == pytest.approx(0.8, abs=0.01)
    assert (read == true).mean() == pytest.approx(0.1 + 0.1 / 20, abs=0.005)
    changed = read[(read != MASK) & (read != true)]
    assert np.bincount(changed, minlength=21)[1:].min() > 0.8 * len(changed) / 20, "any amino acid alike"


@given(st.integers(1, 600), st.integers(0, 2**32))
def test_spans_are_apart_and_hide_the_share_exactly(num_letters: int, seed: int) -> None:
    config = SpanMaskingConfig()
    spans = draw_spans(num_letters, config, np.random.default_rng(seed))
    assert sum(stop - start for start, stop in spans) == max(1, round(0.15 * num_letters))
    assert all(1 <= stop - start <= 39 for start, stop in spans)
    edges = [edge for span in spans for edge in span]
    assert edges[0] >= 0 and edges[-1] <= num_letters
    assert all(stop < start for (_, stop), (start, _) in zip(spans, spans[1:], strict=False))


def test_span_lengths_are_poisson_and_their_places_even() -> None:
    random, config = np.random.default_rng(0), SpanMaskingConfig()
    drawn = [draw_spans(400, config, random) for _ in range(500)]
    lengths = np.asarray([stop - start for spans in drawn for start, stop in spans])
    assert lengths.mean() == pytest.approx(3 / (1 - np.exp(-3)), rel=0.03), "of a Poisson without its zeros"
    hidden = np.zeros(400)
    for spans in drawn:
        for start, stop in spans:
            hidden[start:stop] += 1 / 500
    assert hidden.reshape(20, 20).mean(axis=1) == pytest.approx(0.15, abs=0.03)


@given(st.integers(1, 80), st.booleans(), st.integers(0, 2**32))
def test_blanks_and_targets_make_up_the_piece(num_letters: int, ends: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    piece = random.choice(OURS.standard, num_letters)
    piece = OURS.frame(piece) if ends else piece
    stage = ObjectiveStage(num_steps=1, span=1.0)
    example = draw_example(piece, OURS, stage, TokenMaskingConfig(), SpanMaskingConfig(), random, starts=True)
    source = example.token_ids[: example.prefix_length]
    assert (example.labels[: example.prefix_length] == NONE).all()
    targets: dict[int, list[int]] = {}
    for (where, place), label in zip(
        example.positions[example.prefix_length :].tolist(), example.labels[example.prefix_length :], strict=True
    ):
        targets.setdefault(where, []).append(label)
        assert place == len(targets[where])
    assert sorted(targets) == np.flatnonzero(source == SMASK).tolist()
    assert all(target[-1] == EOP for target in targets.values())
    whole = [token for i, one in enumerate(source) for token in (targets[i][:-1] if one == SMASK else [one])]
    assert whole == piece.tolist()


def test_objectives_are_drawn_by_their_shares() -> None:
    random = np.random.default_rng(0)
    stage = ObjectiveStage(num_steps=1, mlm=0.2, span=0.3, suffix=0.5)
    piece = OURS.frame(OURS.encode("MKTAYIAKQRQISFVK"))
    kinds = []
    for _ in range(2_000):
        example = draw_example(piece, OURS, stage, TokenMaskingConfig(), SpanMaskingConfig(), random, starts=True)
        in_place = example.prefix_length == len(example.token_ids)
        kinds.append("mlm" if in_place else "suffix" if GMASK in example.token_ids else "span")
    shares = {kind: kinds.count(kind) / 2_000 for kind in ("mlm", "span", "suffix")}
    assert shares == pytest.approx({"mlm": 0.2, "span": 0.3, "suffix": 0.5}, abs=0.035)


@pytest.mark.parametrize("objective", ["mlm", "clm", "span", "suffix"])
def test_a_draw_is_its_seeds(objective: str) -> None:
    piece = OURS.frame(OURS.encode("MKTAYIAKQRQISFVK"))
    stage = ObjectiveStage(num_steps=1, **{objective: 1.0})

    def draw(seed: int) -> list[tuple[int, int, int, int]]:
        random = np.random.default_rng(seed)
        return rows(draw_example(piece, OURS, stage, TokenMaskingConfig(), SpanMaskingConfig(), random, starts=True))

    assert draw(3) == draw(3)
    assert objective == "clm" or any(draw(seed) != draw(3) for seed in range(9))


def test_esm_has_no_blanks() -> None:
    with pytest.raises(ConfigError, match="no span_mask"):
        fill_blanks(ESM.encode("MKTAY"), [(1, 2)], ids(0), ESM)
    with pytest.raises(ConfigError, match="no suffix_mask"):
        predict_suffix(ESM.encode("MKTAY"), 2, ESM)
