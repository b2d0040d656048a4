"""GLM's two tasks: fill in blanks (sMASK), and go on from a prefix (gMASK).

Both end in targets that are generated letter by letter, after a source that is read in both directions.
Source: GLM (arXiv 2103.10360), xTrimoPGLM (arXiv 2401.06199).
Letters: n tokens of one piece of a sequence; k spans.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from xtrimogene.protein.config import SpanMaskingConfig
from xtrimogene.protein.examples.example import Example, as_ids, no_labels, source_positions, target_positions
from xtrimogene.protein.tokenizer import ProteinTokenizer

Span = tuple[int, int]  # where it begins and where it ends, as in a slice


def draw_spans(num_letters: int, config: SpanMaskingConfig, random: np.random.Generator) -> list[Span]:
    """Draw spans, left to right, with a letter at least between two; the last one drawn is cut to make the share exact.

    Every arrangement of the drawn lengths is as likely as any other.
    """
    budget = max(1, round(config.fraction * num_letters))
    lengths: list[int] = []
    while budget > sum(lengths):
        length = int(random.poisson(config.mean_length))
        if 1 <= length <= config.max_length:
            lengths.append(min(length, budget - sum(lengths)))
    num_shown = num_letters - budget
    assert num_shown + 1 >= len(lengths), "the config leaves at least half of the letters"
    order = random.permutation(len(lengths))
    gaps = np.sort(random.choice(num_shown + 1, len(lengths), replace=False))  # letters shown before each span
    spans, hidden = [], 0
    for gap, length in zip(gaps.tolist(), (lengths[i] for i in order), strict=True):
        spans.append((gap + hidden, gap + hidden + length))
        hidden += length
    return spans


def fill_blanks(
    piece: Int64[np.ndarray, " n"],
    spans: Sequence[Span],
    order: Int64[np.ndarray, " k"],
    tokenizer: ProteinTokenizer,
) -> Example:
    """sMASK: the piece with one mask in place of each span, then the spans in this order, each to its end mark.

    Parameters
    ----------
    spans
        Left to right, of the piece's tokens; at least one token between two.
    """
    mask, begin, end = (tokenizer.mark(mark) for mark in ("span_mask", "target_begin", "span_end"))
    source, mask_index, after = [], [], 0
    for start, stop in spans:
        source += [*piece[after:start].tolist(), mask]
        mask_index.append(len(source) - 1)
        after = stop
    source += piece[after:].tolist()
    token_ids, positions, labels = [as_ids(source)], [source_positions(len(source))], [no_labels(len(source))]
    for which in order.tolist():
        letters = piece[slice(*spans[which])]
        token_ids += [as_ids([begin]), letters]
        labels += [letters, as_ids([end])]
        positions.append(target_positions(mask_index[which], len(letters) + 1))
    return Example(np.concatenate(token_ids), np.concatenate(positions), np.concatenate(labels), len(source))


def predict_suffix(piece: Int64[np.ndarray, " n"], cut: int, tokenizer: ProteinTokenizer) -> Example:
    """gMASK: the first ``cut`` tokens, a mask, and the rest of the piece, which is asked for."""
    source = np.concatenate([piece[:cut], [tokenizer.mark("suffix_mask")]])
    target = piece[cut:]
    token_ids = np.concatenate([source, [tokenizer.mark("target_begin")], target[:-1]])
    positions = np.concatenate([source_positions(len(source)), target_positions(cut, len(target))])
    labels = np.concatenate([no_labels(len(source)), target])
    return Example(token_ids, positions, labels, len(source))
