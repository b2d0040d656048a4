"""Generate proteins: from a prefix, or in a gap of a sequence.

Each token is computed once: keys and values of those before it are kept. Only the 20 standard amino acids and the mark
of an end are drawn.
Letters: n tokens; V vocabulary.
"""

import warnings
from typing import Literal, get_args

import numpy as np
import torch

from xtrimogene.config import require
from xtrimogene.inference import choose_device
from xtrimogene.protein.config import SpanMaskingConfig
from xtrimogene.protein.examples.blank_infilling import fill_blanks, predict_suffix
from xtrimogene.protein.examples.example import Example, as_ids, no_labels
from xtrimogene.protein.examples.objectives import predict_next
from xtrimogene.protein.generation.sampling import SamplingConfig, draw_token
from xtrimogene.protein.network.checkpoint import ProteinModel
from xtrimogene.protein.network.key_value_cache import LayerCache
from xtrimogene.protein.network.packed_sequences import PackedSequences
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.network.to_read import network_to_read
from xtrimogene.protein.network.trained_by import require_objective
from xtrimogene.protein.tokenizer import ProteinTokenizer

GAP = "_"
LONGEST_SPAN = SpanMaskingConfig().max_length
Continuation = Literal["clm", "suffix"]


def generate(
    model: ProteinModel,
    *,
    prefix: str = "",
    num_sequences: int = 1,
    max_length: int | None = None,
    objective: Continuation = "clm",
    sampling: SamplingConfig | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
) -> list[str]:
    """Return proteins that begin with ``prefix``.

    Parameters
    ----------
    max_length
        Residues of a whole protein; one that has not ended by then is returned as it is. Default: as many as the
        model was trained on.
    objective
        What the model was trained on: "clm", or "suffix", which reads the prefix in both directions.
    batch_size
        Sequences that grow side by side; it changes how much memory is needed, not what comes out.
    device
        Default: a GPU where there is one.

    Raises
    ------
    ConfigError
        A prefix that is longer than ``max_length``, a setting that cannot work, or an objective that the model is
        known not to have learned.
    SequenceError
        A prefix with something that is no amino acid.
    """
    require(objective in get_args(Continuation), f"objective={objective!r} is neither 'clm' nor 'suffix'.")
    require_objective(model, objective, f"objective={objective!r}")
    tokenizer, longest = model.tokenizer, longest_protein(model, objective)
    most = longest if max_length is None else max_length
    _check_numbers(num_sequences=num_sequences, max_length=most, batch_size=batch_size)
    given = tokenizer.encode(prefix)
    require(len(given) <= most, f"The prefix has {len(given)} residues, more than max_length={most}; set a larger one.")
    _warn_of_length(most, longest, f"max_length={most}")
    anything = np.append(given, tokenizer.mark("end"))  # its last token is a label only
    if objective == "suffix":
        prompt = predict_suffix(anything, len(given), tokenizer)
    else:
        framed = np.append(tokenizer.mark("begin"), anything) if tokenizer.begins_each else anything
        prompt = predict_next(framed, tokenizer, starts=True)
    rest = _grow(
        network_to_read(model.network, choose_device(device)),
        tokenizer,
        prompt,
        end=tokenizer.mark("end"),
        may_be_empty=bool(prefix),
        max_new=most - len(given),
        num_sequences=num_sequences,
        sampling=sampling or SamplingConfig(),
        batch_size=batch_size,
    )
    return [prefix + tokenizer.decode(as_ids(tokens)) for tokens in rest]


def infill(
    model: ProteinModel,
    sequence: str,
    *,
    num_sequences: int = 1,
    max_span_length: int = LONGEST_SPAN,
    sampling: SamplingConfig | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
) -> list[str]:
    """Return the sequence with its gap filled, by a model trained on blanks ("span").

    Parameters
    ----------
    sequence
        With one ``_`` where residues are missing, however many: the model decides.
    max_span_length
        Residues of a filling; training has no longer blanks than 39.
    device
        Default: a GPU where there is one.

    Raises
    ------
    ConfigError
        Not one gap, a vocabulary without blanks, a setting that cannot work, or a model without blanks in training.
    SequenceError
        Something that is no amino acid.
    """
    require_objective(model, "span", "filling a gap")
    tokenizer = model.tokenizer
    require(sequence.count(GAP) == 1, f"The sequence has {sequence.count(GAP)} gaps; write one {GAP!r} where it is.")
    _check_numbers(num_sequences=num_sequences, max_span_length=max_span_length, batch_size=batch_size)
    before, _, after = sequence.partition(GAP)
    letters = tokenizer.encode(sequence.replace(GAP, "X"))  # together, so that an error counts from the beginning
    piece = tokenizer.frame(np.delete(letters, len(before)))
    prompt = fill_blanks(piece, [(len(before), len(before))], as_ids([0]), tokenizer)
    longest = model.network.config.max_length - len(prompt.token_ids)
    _warn_of_length(max_span_length, longest, f"max_span_length={max_span_length} in these {len(letters) - 1} residues")
    fillings = _grow(
        network_to_read(model.network, choose_device(device)),
        tokenizer,
        prompt,
        end=tokenizer.mark("span_end"),
        may_be_empty=bool(before + after),
        max_new=max_span_length,
        num_sequences=num_sequences,
        sampling=sampling or SamplingConfig(),
        batch_size=batch_size,
    )
    return [before + tokenizer.decode(as_ids(tokens)) + after for tokens in fillings]


def longest_protein(model: ProteinModel, objective: Continuation) -> int:
    """Return how many residues leave room for the marks that are read with them, in what the model was trained on."""
    num_marks = 2 if objective == "suffix" else 1  # suffix: the mask, and where the target begins
    return model.network.config.max_length - num_marks


@torch.inference_mode()
def _grow(
    network: ProteinLM,
    tokenizer: ProteinTokenizer,
    prompt: Example,
    *,
    end: int,
    may_be_empty: bool,
    max_new: int,
    num_sequences: int,
    sampling: SamplingConfig,
    batch_size: int,
) -> list[list[int]]:
    """Return the tokens that follow the prompt, up to the end mark and without it."""
    grown: list[list[int]] = [[] for _ in range(num_sequences)]
    with_end = np.append(tokenizer.standard, end)
    randoms = [sampling.generator(sequence) for sequence in range(num_sequences)]
    device = network.head.weight.device
    for first in range(0, num_sequences, batch_size):
        active = list(range(first, min(first + batch_size, num_sequences)))
        caches = [LayerCache() for _ in network.blocks]
        hidden = network.hidden(PackedSequences.from_examples([prompt]).to(device), caches)[-1:]
        logits = network.head(hidden).float().cpu().numpy().repeat(len(active), axis=0)  # (B, V)
        rows = [0] * len(active)
        for step in range(max_new):
            allowed = with_end if step or may_be_empty else tokenizer.standard
            drawn = [
                draw_token(scores, allowed, sampling, randoms[which])
                for scores, which in zip(logits, active, strict=True)
            ]
            kept = [i for i, token in enumerate(drawn) if token != end]
            for i in kept:
                grown[active[i]].append(drawn[i])
            active, rows = [active[i] for i in kept], [rows[i] for i in kept]
            if not active or step == max_new - 1:
                break
            if step == 0 or len(kept) < len(drawn):
                for cache in caches:
                    cache.select(torch.tensor(rows, device=device))
            rows = list(range(len(active)))
            following = [_next_token(prompt, drawn[i], step) for i in kept]
            hidden = network.hidden(PackedSequences.from_examples(following).to(device), caches)
            logits = network.head(hidden).float().cpu().numpy()
    return grown


def _next_token(prompt: Example, token: int, step: int) -> Example:
    """Place a token after the prompt's last: one further in the source, or in what is generated."""
    generated = int(prompt.positions[-1, 1] > 0)
    position = prompt.positions[-1:].copy()
    position[0, generated] += step + 1
    return Example(as_ids([token]), position, no_labels(1), 0)


def _check_numbers(**numbers: int) -> None:
    for name, number in numbers.items():
        require(number >= 1, f"{name}={number} must be at least 1.")


def _warn_of_length(length: int, longest: int, what: str) -> None:
    if length > longest:
        warnings.warn(
            f"{what} is more than the {max(0, longest)} residues that leave room for the marks in what the model was "
            "trained on; what lies beyond is a guess, so set a smaller one.",
            stacklevel=3,
        )
