"""What is learned from a sequence: MLM, CLM, and a mix of objectives by shares.

Source: Training Compute-Optimal Protein Language Models (arXiv 2411.02142); xTrimoPGLM (arXiv 2401.06199).
Letters: n tokens of one piece of a sequence.
"""

import numpy as np
from jaxtyping import Int64

from xtrimogene.protein.config import ObjectiveStage, SpanMaskingConfig, TokenMaskingConfig
from xtrimogene.protein.examples.blank_infilling import draw_spans, fill_blanks, predict_suffix
from xtrimogene.protein.examples.example import IGNORED, Example, no_labels, source_positions
from xtrimogene.protein.tokenizer import ProteinTokenizer


def mask_letters(
    piece: Int64[np.ndarray, " n"],
    tokenizer: ProteinTokenizer,
    config: TokenMaskingConfig,
    random: np.random.Generator,
) -> Example:
    """MLM: hide a share of the letters in place, at least one, and ask for them; marks are never hidden."""
    letters = np.flatnonzero(tokenizer.is_letter(piece))
    num_hidden = min(len(letters), max(1, round(config.fraction * len(letters))))
    hidden = random.choice(letters, num_hidden, replace=False)
    fate = random.random(num_hidden)
    masked = hidden[fate < config.replace_fraction]
    replaced = hidden[(fate >= config.replace_fraction) & (fate < config.replace_fraction + config.random_fraction)]
    token_ids, labels = piece.copy(), no_labels(len(piece))
    labels[hidden] = piece[hidden]
    token_ids[masked] = tokenizer.mark("mask")
    token_ids[replaced] = random.choice(tokenizer.standard, len(replaced))
    return Example(token_ids, source_positions(len(piece)), labels, len(piece))


def predict_next(piece: Int64[np.ndarray, " n"], tokenizer: ProteinTokenizer, *, starts: bool) -> Example:
    """CLM: ask for each token after those before it.

    Parameters
    ----------
    starts
        Whether the sequence begins with this piece: then its first letter is asked for too, after "begin".
    """
    begun = starts and not tokenizer.begins_each
    tokens = np.concatenate([[tokenizer.mark("begin")], piece]) if begun else piece
    return Example(tokens[:-1], source_positions(len(tokens) - 1), tokens[1:], 0)


def draw_example(
    piece: Int64[np.ndarray, " n"],
    tokenizer: ProteinTokenizer,
    stage: ObjectiveStage,
    masking: TokenMaskingConfig,
    spans: SpanMaskingConfig,
    random: np.random.Generator,
    *,
    starts: bool,
) -> Example:
    """Draw one objective by the stage's shares and what it hides."""
    names, shares = list(stage.shares), np.asarray(list(stage.shares.values()))
    objective = names[int(np.searchsorted((shares / shares.sum()).cumsum(), random.random(), side="right"))]
    if objective == "mlm":
        return mask_letters(piece, tokenizer, masking, random)
    if objective == "clm":
        return predict_next(piece, tokenizer, starts=starts)
    if objective == "suffix":
        return predict_suffix(piece, int(random.integers(len(piece))), tokenizer)
    num_letters = int(tokenizer.is_letter(piece).sum())
    drawn = draw_spans(num_letters, spans, random)
    return fill_blanks(piece, drawn, random.permutation(len(drawn)), tokenizer)


def num_targets(example: Example) -> int:
    return int((example.labels != IGNORED).sum())
