"""What is generated keeps what was given, is its seed's, and is what the network says without a cache."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrimogene.errors import ConfigError, SequenceError
from xtrimogene.protein.examples.blank_infilling import fill_blanks, predict_suffix
from xtrimogene.protein.examples.example import IGNORED, Example
from xtrimogene.protein.examples.objectives import predict_next
from xtrimogene.protein.generation.generate import generate, infill
from xtrimogene.protein.generation.sampling import SamplingConfig
from xtrimogene.protein.network.checkpoint import ProteinModel
from xtrimogene.protein.network.key_value_cache import LayerCache
from xtrimogene.protein.network.packed_sequences import PackedSequences
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.tokenizer import ProteinTokenizer

OURS, ESM = ProteinTokenizer.xtrimopglm(), ProteinTokenizer.esm()
GREEDY = SamplingConfig(temperature=1e-6)
residues = st.text("ACDEFGHIKLMNPQRSTVWY", max_size=12)


@pytest.mark.parametrize(("objective", "tokenizer"), [("clm", OURS), ("clm", ESM), ("suffix", OURS)])
@settings(max_examples=10)
@given(prefix=residues, seed=st.integers(0, 99))
def test_a_prefix_is_kept(tiny: ProteinLM, objective: Any, tokenizer: ProteinTokenizer, prefix: str, seed: int) -> None:
    sampling = SamplingConfig(seed=seed)
    made = generate(
        ProteinModel(tiny, tokenizer),
        prefix=prefix,
        num_sequences=3,
        max_length=16,
        objective=objective,
        sampling=sampling,
    )
    assert len(made) == 3
    for sequence in made:
        assert sequence.startswith(prefix) and len(sequence) <= 16
        assert set(sequence) <= set("ACDEFGHIKLMNPQRSTVWY")


@settings(max_examples=10)
@given(before=residues, after=residues, seed=st.integers(0, 99))
def test_what_is_around_a_gap_is_kept(tiny: ProteinLM, before: str, after: str, seed: int) -> None:
    sequence = f"{before}_{after}"
    made = infill(
        ProteinModel(tiny, OURS), sequence, num_sequences=3, max_span_length=6, sampling=SamplingConfig(seed=seed)
    )
    for filled in made:
        assert filled.startswith(before) and filled.endswith(after)
        assert len(before + after) <= len(filled) <= len(before + after) + 6


def likeliest(network: ProteinLM, tokenizer: ProteinTokenizer, example: Example, end: int) -> np.ndarray:
    """Return the likeliest of the allowed tokens at each place that has a label, computed all at once."""
    allowed = np.append(tokenizer.standard, end)
    with torch.no_grad():
        logits = network(PackedSequences.from_examples([example])).numpy()
    return allowed[logits[example.labels != IGNORED][:, allowed].argmax(1)]


@pytest.mark.parametrize("prefix", ["", "MKTAYI"])
@pytest.mark.parametrize(("objective", "tokenizer"), [("clm", OURS), ("clm", ESM), ("suffix", OURS)])
def test_each_token_is_what_the_network_says_of_the_whole(
    tiny: ProteinLM, objective: Any, tokenizer: ProteinTokenizer, prefix: str
) -> None:
    (made,) = generate(
        ProteinModel(tiny, tokenizer), prefix=prefix, max_length=24, objective=objective, sampling=GREEDY
    )
    piece = tokenizer.frame(tokenizer.encode(made))
    if objective == "suffix":
        example, first = predict_suffix(piece, len(prefix), tokenizer), 0
    else:
        example, first = predict_next(piece, tokenizer, starts=True), len(prefix)
    end = tokenizer.mark("end")
    wanted = likeliest(tiny, tokenizer, example, end)[first:]
    drawn = tokenizer.encode(made)[len(prefix) :]
    assert len(drawn) > 0
    assert wanted[: len(drawn)].tolist() == drawn.tolist()
    assert len(made) == 24 or wanted[len(drawn)] == end


def test_each_token_of_a_filling_is_what_the_network_says_of_the_whole(tiny: ProteinLM) -> None:
    (made,) = infill(ProteinModel(tiny, OURS), "MKT_AYIAK", max_span_length=8, sampling=GREEDY)
    filling = made[3:-5]
    piece = OURS.frame(OURS.encode(made))
    example = fill_blanks(piece, [(3, 3 + len(filling))], np.asarray([0]), OURS)
    wanted = likeliest(tiny, OURS, example, OURS.mark("span_end"))
    assert wanted[: len(filling)].tolist() == OURS.encode(filling).tolist()
    assert len(filling) == 8 or wanted[len(filling)] == OURS.mark("span_end")


def test_a_sequence_is_its_seeds_whatever_is_made_beside_it(tiny: ProteinLM) -> None:
    def make(num_sequences: int, batch_size: int, seed: int = 5) -> list[str]:
        return generate(
            ProteinModel(tiny, OURS),
            prefix="MK",
            num_sequences=num_sequences,
            max_length=20,
            sampling=SamplingConfig(seed=seed),
            batch_size=batch_size,
        )

    together = make(7, 64)
    assert len(set(together)) > 1
    assert make(7, 1) == make(7, 3) == together
    assert make(4, 2) == together[:4]
    assert make(7, 64, seed=6) != together


def ends(network: ProteinLM, end: int) -> ProteinLM:
    """Return a network that says nothing but this token."""
    other = ProteinLM(network.config, seed=0).eval()
    with torch.no_grad():
        other.final_norm.weight.zero_()
        other.final_norm.weight[0] = 1.0
        other.head.weight.zero_()
        other.head.weight[end] = network.head.weight[end]
        for block in other.blocks:
            block.attention.out.weight.zero_()
            block.contract.weight.zero_()
        other.token_embedding.weight.zero_()
        other.token_embedding.weight[:, 0] = 1.0
        other.head.weight[end, 0] = 100.0
    return other


def test_an_end_ends(tiny: ProteinLM) -> None:
    assert generate(ProteinModel(ends(tiny, 34), OURS), prefix="MK", num_sequences=2) == ["MK", "MK"]
    assert infill(ProteinModel(ends(tiny, 33), OURS), "MK_L", num_sequences=2) == ["MKL", "MKL"]
    assert generate(ProteinModel(tiny, OURS), prefix="MKT", max_length=3) == ["MKT"]


def test_no_protein_is_empty(tiny: ProteinLM) -> None:
    for made in (
        generate(ProteinModel(ends(tiny, 34), OURS), num_sequences=2),
        generate(ProteinModel(ends(tiny, 34), OURS), num_sequences=2, objective="suffix"),
        infill(ProteinModel(ends(tiny, 33), OURS), "_", num_sequences=2),
    ):
        assert [len(one) for one in made] == [1, 1]


@pytest.mark.parametrize(("objective", "longest"), [("clm", 63), ("suffix", 62)])
def test_a_protein_is_as_long_as_the_model_was_trained_on(tiny: ProteinLM, objective: Any, longest: int) -> None:
    endless = ends(tiny, int(OURS.standard[0]))  # says one residue, and never an end
    assert generate(ProteinModel(endless, OURS), objective=objective) == ["L" * longest]
    with pytest.warns(UserWarning, match=f"max_length={longest + 1} is more than the {longest} residues") as warned:
        made = generate(ProteinModel(endless, OURS), max_length=longest + 1, objective=objective, num_sequences=2)
    assert made == ["L" * (longest + 1)] * 2 and len(warned) == 1


def test_a_filling_beyond_what_the_model_was_trained_on_is_warned_of(tiny: ProteinLM) -> None:
    model = ProteinModel(ends(tiny, 33), OURS)
    infill(model, "M" * 22 + "_", max_span_length=39)  # 61 residues, the end, a mask and where the target begins
    with pytest.warns(UserWarning, match="max_span_length=39 in these 23 residues is more than the 38"):
        infill(model, "M" * 23 + "_", max_span_length=39)


def test_a_network_is_read_where_it_is_asked_for_and_left_as_it_was(tiny: ProteinLM) -> None:
    network = ProteinLM(tiny.config, seed=1).train()
    made = generate(ProteinModel(network, OURS), prefix="MK", max_length=9, device="cpu")
    assert made == generate(ProteinModel(tiny, OURS), prefix="MK", max_length=9, device="cpu")
    assert network.training
    with pytest.raises(ConfigError, match="nowhere"):
        generate(ProteinModel(tiny, OURS), max_length=9, device="nowhere")
    with pytest.raises(ConfigError, match="nowhere"):
        infill(ProteinModel(tiny, OURS), "M_K", device="nowhere")


def test_a_cache_is_copied_only_where_a_sequence_ended(tiny: ProteinLM, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[list[int]] = []
    select = LayerCache.select

    def noting(self: LayerCache, sequences: torch.Tensor) -> None:
        chosen.append(sequences.tolist())
        select(self, sequences)

    monkeypatch.setattr(LayerCache, "select", noting)
    generate(ProteinModel(ends(tiny, int(OURS.standard[0])), OURS), num_sequences=2, max_length=9)
    assert chosen == [[0, 0]] * tiny.config.num_layers


def test_what_cannot_work_is_refused(tiny: ProteinLM) -> None:
    with pytest.raises(ConfigError, match="The prefix has 3 residues, more than max_length=2"):
        generate(ProteinModel(tiny, OURS), prefix="MKT", max_length=2)
    with pytest.raises(ConfigError, match="num_sequences=0 must be at least 1"):
        generate(ProteinModel(tiny, OURS), num_sequences=0)
    with pytest.raises(ConfigError, match="The sequence has 2 gaps; write one '_' where it is"):
        infill(ProteinModel(tiny, OURS), "M_K_T")
    with pytest.raises(ConfigError, match="has no span_mask"):
        infill(ProteinModel(tiny, ESM), "M_K")
    with pytest.raises(SequenceError, match=r"Letter '\*' at position 2"):
        generate(ProteinModel(tiny, OURS), prefix="M*")
    with pytest.raises(SequenceError, match="Letter 'j' at position 5"):
        infill(ProteinModel(tiny, OURS), "MK_Lj")
