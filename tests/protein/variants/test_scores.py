"""Scores beside loops written out one site, one sequence at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xtrimogene.errors import SequenceError
from xtrimogene.protein.examples.objectives import predict_next
from xtrimogene.protein.network.checkpoint import ProteinModel
from xtrimogene.protein.network.packed_sequences import PackedSequences
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.tokenizer import ProteinTokenizer
from xtrimogene.protein.variants.notation import STANDARD, Substitution, read_variants
from xtrimogene.protein.variants.scores import score_variants

WILD = "MKTAYIAKQRQISFVKSHFSRQ"
TOKENIZERS = {"xtrimopglm": ProteinTokenizer.xtrimopglm(), "esm": ProteinTokenizer.esm()}


@pytest.fixture(params=list(TOKENIZERS))
def model(tiny: ProteinLM, request: pytest.FixtureRequest) -> ProteinModel:
    return ProteinModel(tiny, TOKENIZERS[request.param])


def log_p(model: ProteinModel, tokens: np.ndarray) -> Tensor:
    return model.network(PackedSequences.from_ids([tokens])).detach().log_softmax(-1)


def log_likelihood(model: ProteinModel, sequence: str) -> float:
    """Of the whole sequence and its end, causally."""
    example = predict_next(model.tokenizer.frame(model.tokenizer.encode(sequence)), model.tokenizer, starts=True)
    rows = model.network(PackedSequences.from_examples([example])).detach().log_softmax(-1)
    return float(rows[torch.arange(len(rows)), torch.from_numpy(example.labels)].sum())


def by_marginals(model: ProteinModel, places: list[tuple[int, str]], masked: bool) -> float:
    total = 0.0
    for place, mutant in places:
        tokens = model.tokenizer.frame(model.tokenizer.encode(WILD))
        row = place + int(model.tokenizer.begins_each)
        old, new = tokens[row], model.tokenizer.encode(mutant)[0]
        if masked:
            tokens[row] = model.tokenizer.mark("mask")
        found = log_p(model, tokens)[row]
        total += float(found[new] - found[old])
    return total


@pytest.mark.parametrize("method", ["masked_marginal", "wild_type_marginal"])
def test_marginals_are_those_of_a_loop(model: ProteinModel, method: str) -> None:
    scores = score_variants(
        model, WILD, ["K2G", "A4W:Q22L", "M1M", "Q22L"], method=method, device="cpu", token_budget=50
    )
    loops = [[(1, "G")], [(3, "W"), (21, "L")], [], [(21, "L")]]
    expected = [by_marginals(model, loop, method == "masked_marginal") for loop in loops]
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert scores[2] == 0


def test_clm_is_the_difference_of_whole_sequences(model: ProteinModel) -> None:
    mutants = ["GKTAYIAKQRQISFVKSHFSRQ", "MKTAYIAKQRQISFVKSHFSRW", WILD, "MKTAYIAWQRQISFVKSAFSRQ"]
    scores = score_variants(model, WILD, mutants, method="clm", device="cpu", token_budget=50)
    expected = [log_likelihood(model, mutant) - log_likelihood(model, WILD) for mutant in mutants]
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert scores[2] == 0


@pytest.mark.parametrize("method", ["masked_marginal", "wild_type_marginal", "clm"])
def test_a_variant_is_the_same_as_text_and_as_a_sequence(model: ProteinModel, method: str) -> None:
    pairs = [("A24W:Q42L", "MKTWYIAKQRQISFVKSHFSRL"), ("M21G", "G" + WILD[1:])]
    as_text = score_variants(model, WILD, [text for text, _ in pairs], method=method, offset=20, device="cpu")
    whole = score_variants(model, WILD, [sequence for _, sequence in pairs], method=method, device="cpu")
    np.testing.assert_array_equal(as_text, whole)


@pytest.mark.parametrize("method", ["masked_marginal", "wild_type_marginal"])
def test_a_marginal_of_a_long_protein_reads_the_window_around_its_site(model: ProteinModel, method: str) -> None:
    scores = score_variants(model, WILD, ["S13A", "M1A", "Q22A"], method=method, window=10, device="cpu")
    tokens = model.tokenizer.frame(model.tokenizer.encode(WILD))
    begin = int(model.tokenizer.begins_each)
    for score, site in zip(scores, [12, 0, 21], strict=True):
        row = site + begin
        start = min(max(0, row - 5), len(tokens) - 10)
        window = tokens[start : start + 10].copy()
        old, new = window[row - start], model.tokenizer.encode("A")[0]
        if method == "masked_marginal":
            window[row - start] = model.tokenizer.mark("mask")
        found = log_p(model, window)[row - start]
        assert score == pytest.approx(float(found[new] - found[old]), abs=1e-4)


def test_clm_of_a_long_protein_takes_each_residue_from_the_first_window_that_asks_for_it(model: ProteinModel) -> None:
    """23 tokens are asked for, 10 at a time: windows from 0, 5, 10 and 13."""

    def log_likelihood_in_windows(sequence: str) -> float:
        tokens = model.tokenizer.encode(sequence)
        read = np.concatenate([[model.tokenizer.mark("begin")], tokens])
        asked = np.append(tokens, model.tokenizer.mark("end"))
        total, known = 0.0, 0
        for start in (0, 5, 10, 13):
            example = predict_next(np.append(read[start : start + 10], asked[start + 9]), model.tokenizer, starts=False)
            rows = model.network(PackedSequences.from_examples([example])).detach().log_softmax(-1)
            total += sum(float(rows[place - start, asked[place]]) for place in range(known, start + 10))
            known = start + 10
        return total

    mutants = ["GKTAYIAKQRQISFVKSHFSRQ", "MKTAYIAKWRQISFVKSHFSRQ", "MKTAYIAKQRQISFVKSHFSRW", "MKTAWIAKQRQISFVKSHFGRQ"]
    scores = score_variants(model, WILD, mutants, method="clm", window=10, device="cpu")
    base = log_likelihood_in_windows(WILD)
    np.testing.assert_allclose(scores, [log_likelihood_in_windows(one) - base for one in mutants], atol=1e-4)


@settings(max_examples=15)
@given(st.permutations(list(range(len(WILD)))), st.integers(1, 400), st.sampled_from(["masked_marginal", "clm"]))
def test_a_score_is_the_same_whatever_the_batch(tiny: ProteinLM, order: list[int], budget: int, method: str) -> None:
    model = ProteinModel(tiny, TOKENIZERS["xtrimopglm"])
    variants = [f"{WILD[place]}{place + 1}{STANDARD[place % 20]}" for place in order]
    scores = score_variants(model, WILD, variants, method=method, token_budget=budget, window=16, device="cpu")
    alone = [score_variants(model, WILD, [one], method=method, window=16, device="cpu")[0] for one in variants[:5]]
    np.testing.assert_allclose(scores[:5], alone, atol=1e-5)


def test_a_variant_is_read_by_place_and_without_what_changes_nothing() -> None:
    found = read_variants(["L6P:A4G", "A4A", "MKGALLL"], "MKTALLL", offset=0)
    assert found == [(Substitution(3, "A", "G"), Substitution(5, "L", "P")), (), (Substitution(2, "T", "G"),)]


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("A24G", r"Variant 2 \(A24G\): position 24 is not among 1 to 22 of the wild type; correct it, or offset=0\."),
        ("A5G", r"Variant 2 \(A5G\): the wild type has Y at position 5, not A; correct the variant, or offset=0\."),
        ("K2G:A5G", "has Y at position 5, not A"),
        ("A4G:A4W", "changes position 4 twice"),
        ("A4G,K2R", r"'A4G,K2R' is not like A24G; put colons"),
        ("a4g", "'a4g' is not like A24G"),
        ("A4X", "puts 'X' at position 4, which is none of"),
        ("A4", "'A4' is not like A24G"),
        ("MKT", "has 3 letters and the wild type 22; only substitutions"),
        ("XKTAYIAKQRQISFVKSHFSRQ", "puts 'X' at position 1"),
        ("", "is neither like A24G or A24G:L30P nor a whole sequence"),
        ("MKT-YIAKQRQISFVKSHFSRQ", "is neither like"),
    ],
)
def test_a_variant_that_does_not_fit_is_named(tiny: ProteinLM, variant: str, message: str) -> None:
    with pytest.raises(SequenceError, match=message):
        score_variants(ProteinModel(tiny, TOKENIZERS["esm"]), WILD, ["K2R", variant], device="cpu")


def test_a_wild_type_that_is_no_protein_is_refused(tiny: ProteinLM) -> None:
    model = ProteinModel(tiny, TOKENIZERS["esm"])
    with pytest.raises(SequenceError, match="The wild type is empty"):
        score_variants(model, "", ["K2R"])
    with pytest.raises(SequenceError, match="Letter 'J' at position 2 is none of"):
        score_variants(model, "MJ", ["M1R"])


def test_no_variants_are_no_scores(tiny: ProteinLM) -> None:
    for method in ("masked_marginal", "wild_type_marginal", "clm"):
        assert score_variants(ProteinModel(tiny, TOKENIZERS["esm"]), WILD, [], method=method, device="cpu").shape == (
            0,
        )
