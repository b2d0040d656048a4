"""The same protein gets the same vector, whatever it was read with; long ones by hand from their windows."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError
from xtrimogene.protein.examples.example import Example, no_labels, source_positions
from xtrimogene.protein.examples.objectives import predict_next
from xtrimogene.protein.network.packed_sequences import PackedSequences
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.reading.batches import AHEAD, cut_batches
from xtrimogene.protein.reading.reader import ProteinReader
from xtrimogene.protein.reading.windows import times_read, window_around, window_starts
from xtrimogene.protein.tokenizer import ProteinTokenizer

OURS, ESM = ProteinTokenizer.xtrimopglm(), ProteinTokenizer.esm()


def draw(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, length]).choice(OURS.standard, length)


@given(st.integers(1, 300), st.integers(2, 64), st.data())
def test_windows_cover_every_token_and_share_at_least_the_overlap(
    length: int, window: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, window - 1))
    starts = window_starts(length, window, overlap)
    assert starts[0] == 0
    assert min(starts[-1] + window, length) == length
    assert all(0 < after - before <= window - overlap for before, after in zip(starts, starts[1:], strict=False))
    covered = np.zeros(length, int)
    for start in starts:
        assert length <= window or start + window <= length
        covered[start : start + window] += 1
    assert times_read(length, window, starts).tolist() == covered.tolist()
    assert covered.min() >= 1


def test_the_window_around_a_site_keeps_it_in_the_middle() -> None:
    assert window_around(50, 100, 10) == slice(45, 55)
    assert window_around(2, 100, 10) == slice(0, 10)
    assert window_around(98, 100, 10) == slice(90, 100)
    assert window_around(3, 6, 10) == slice(0, 6)


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 60))
def test_batches_hold_every_example_once_and_their_budget(lengths: list[int], budget: int) -> None:
    examples = [Example(draw(n), source_positions(n), no_labels(n), n) for n in lengths]
    places: list[int] = []
    for own, batch in cut_batches(iter(examples), budget):
        assert [examples[place] for place in own] == batch
        assert len(batch) == 1 or sum(len(example.token_ids) for example in batch) <= budget
        places += own
    assert sorted(places) == list(range(len(lengths)))


def test_batches_look_ahead_only_so_far() -> None:
    pulled: list[int] = []

    def examples() -> Sequence[Example]:
        for i in range(1000):
            pulled.append(i)
            yield Example(draw(10), source_positions(10), no_labels(10), 10)

    next(cut_batches(examples(), 20))
    assert len(pulled) == AHEAD * 20 // 10


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=8),
    st.integers(1, 200),
    st.sampled_from(["mean", "last"]),
    st.booleans(),
)
def test_a_protein_gets_its_vector_whatever_the_batch(
    tiny: ProteinLM, lengths: list[int], budget: int, pool: str, causal: bool
) -> None:
    sequences = [draw(length, seed) for seed, length in enumerate(lengths)]
    together = ProteinReader(tiny, OURS, token_budget=budget, window=32, overlap=7, causal=causal, device="cpu")
    alone = ProteinReader(tiny, OURS, token_budget=1, window=32, overlap=7, causal=causal, device="cpu")
    expected = np.concatenate([alone.pooled([ids], pool) for ids in sequences])
    np.testing.assert_allclose(together.pooled(sequences, pool), expected, atol=1e-5)


@pytest.mark.parametrize("tokenizer", [OURS, ESM], ids=["xtrimopglm", "esm"])
def test_the_vector_of_a_short_protein_is_the_mean_over_its_residues(
    tiny: ProteinLM, tokenizer: ProteinTokenizer
) -> None:
    ids = tokenizer.encode("MKTAYIAK")
    hidden = tiny.hidden(PackedSequences.from_ids([tokenizer.frame(ids)])).detach().numpy()
    letters = hidden[1:-1] if tokenizer.begins_each else hidden[:-1]
    reader = ProteinReader(tiny, tokenizer, device="cpu")
    np.testing.assert_allclose(reader.residues([ids])[0], letters, atol=1e-6)
    np.testing.assert_allclose(reader.pooled([ids])[0], letters.mean(0), atol=1e-6)
    np.testing.assert_allclose(reader.pooled([ids], "last")[0], letters[-1], atol=1e-6)


def test_a_residue_of_a_long_protein_is_the_mean_over_its_windows(tiny: ProteinLM) -> None:
    ids = draw(20)
    tokens = np.append(ids, OURS.mark("end"))  # 21 tokens: windows from 0, 6, 9
    reader = ProteinReader(tiny, OURS, window=12, overlap=6, device="cpu")
    seen: list[list[np.ndarray]] = [[] for _ in tokens]
    for start in (0, 6, 9):
        rows = tiny.hidden(PackedSequences.from_ids([tokens[start : start + 12]])).detach().numpy()
        for place, row in enumerate(rows):
            seen[start + place].append(row)
    expected = np.stack([np.mean(rows, axis=0) for rows in seen[:20]])
    np.testing.assert_allclose(reader.residues([ids])[0], expected, atol=1e-5)
    np.testing.assert_allclose(reader.pooled([ids])[0], expected.mean(0), atol=1e-5)


def test_a_causal_reading_sees_nothing_of_what_follows(tiny: ProteinLM) -> None:
    first, second = draw(30), draw(30)
    second[:29] = first[:29]
    second[29] = OURS.standard[OURS.standard != first[29]][0]
    one, other = ProteinReader(tiny, OURS, causal=True, device="cpu").residues([first, second])
    np.testing.assert_allclose(one[:29], other[:29], atol=1e-6)
    assert np.abs(one[29] - other[29]).max() > 1e-3
    both = ProteinReader(tiny, OURS, device="cpu").residues([first, second])
    assert np.abs(both[0][:29] - both[1][:29]).max() > 1e-3


def test_reading_leaves_the_network_as_it_was(tiny: ProteinLM) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    ProteinReader(tiny, OURS, precision="bfloat16", device="cpu").pooled([draw(9)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny.state_dict().items())


def test_bfloat16_is_near(tiny: ProteinLM) -> None:
    exact = ProteinReader(tiny, OURS, device="cpu").pooled([draw(50)])
    lower = ProteinReader(tiny, OURS, precision="bfloat16", device="cpu").pooled([draw(50)])
    assert 0 < np.abs(exact - lower).max() < 0.05 * np.abs(exact).max()


def test_nothing_to_read_is_no_rows(tiny: ProteinLM) -> None:
    assert ProteinReader(tiny, OURS, device="cpu").pooled([]).shape == (0, 32)
    assert ProteinReader(tiny, OURS, device="cpu").residues([]) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 65}, "window=65 must lie between 8 and the 64 tokens"),
        ({"window": 4}, "window=4"),
        ({"window": 16, "overlap": 16}, "overlap=16 must not be negative and less than window=16"),
        ({"token_budget": 0}, "token_budget=0"),
        ({"device": "abacus"}, "device='abacus' is not available"),
    ],
)
def test_settings_that_cannot_work_are_refused(tiny: ProteinLM, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProteinReader(tiny, OURS, **settings)


def test_a_network_in_training_stays_so(tiny: ProteinLM) -> None:
    network = ProteinLM(tiny.config, seed=1).train()
    reader = ProteinReader(network, OURS, device="cpu")
    assert all(module.training for module in network.modules())
    assert not any(module.training for module in reader.network.modules())
    assert ProteinReader(tiny, OURS, device="cpu").network is tiny


def test_log_likelihoods_are_summed_in_float64(tiny: ProteinLM) -> None:
    examples = [predict_next(OURS.frame(draw(length)), OURS, starts=True) for length in (60, 9)]
    packed = PackedSequences.from_examples(examples)
    with torch.inference_mode():
        rows = tiny(packed).log_softmax(-1)
    labels = np.concatenate([example.labels for example in examples])
    tokens = rows[torch.arange(len(rows)), torch.from_numpy(labels)].double().numpy()
    wanted = [tokens[:61].sum(), tokens[61:].sum()]
    found = ProteinReader(tiny, OURS, causal=True, device="cpu").log_likelihoods(iter(examples), 2)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
