"""Score variants without training: how much less likely a model finds them than the wild type.

A marginal is the log-odds of the mutant and the wild-type residue at its place, summed over the substitutions, each
read in the wild type: masked alone ("masked_marginal"), or as it is ("wild_type_marginal"). "clm" is the difference of
the whole sequences' log-likelihoods.
Source: Meier et al. 2021 (ESM-1v), with each site masked by itself, so that a protein takes one pass a site.
Letters: V variants; n residues of the wild type.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32, Int64

from xtrimogene.config import require
from xtrimogene.errors import SequenceError
from xtrimogene.long_work import progress_bar
from xtrimogene.protein.examples.example import IGNORED, Example
from xtrimogene.protein.network.checkpoint import ProteinModel
from xtrimogene.protein.network.trained_by import require_objective
from xtrimogene.protein.reading.reader import ProteinReader, ReaderPrecision
from xtrimogene.protein.reading.windows import window_around, window_starts
from xtrimogene.protein.variants.notation import Substitution, Variant, read_variants

VariantMethod = Literal["masked_marginal", "wild_type_marginal", "clm"]


def score_variants(
    model: ProteinModel,
    wild_type: str,
    variants: Sequence[str],
    *,
    method: VariantMethod = "masked_marginal",
    offset: int = 0,
    window: int | None = None,
    device: str | torch.device | None = None,
    token_budget: int | None = None,
    precision: ReaderPrecision = "float32",
) -> Float32[np.ndarray, " V"]:
    """Return log p(variant) - log p(wild type), in nats; 0 for a variant that changes nothing.

    Of a protein that is longer than the window, a marginal reads the window around its site; "clm" reads windows that
    overlap by half, and takes each residue's probability from the first that holds it.

    Parameters
    ----------
    variants
        "A24G", or several with colons between; or whole mutant sequences, as long as the wild type.
    method
        The marginals need a model that was trained by MLM, "clm" one trained by CLM.
    offset
        How many residues are numbered before the first of ``wild_type``: 0 where that is number 1.
    window
        Tokens that are read at once. Default and most: what the model was trained on.
    token_budget
        Tokens a batch may hold. Bounds memory and never changes a result.

    Raises
    ------
    SequenceError
        A wild type that is no protein, or the first variant that does not fit it.
    ConfigError
        A setting that cannot work, or a method that the model was not trained for.
    """
    require(method in get_args(VariantMethod), f"method={method!r} is not one of {', '.join(get_args(VariantMethod))}.")
    require_objective(model, "clm" if method == "clm" else "mlm", f"method={method!r}")
    if not wild_type:
        raise SequenceError("The wild type is empty; give its sequence.")
    ids = model.tokenizer.encode(wild_type)
    changes = read_variants(variants, wild_type, offset=offset)
    reader = ProteinReader(
        model.network,
        model.tokenizer,
        device=device,
        token_budget=token_budget,
        window=window,
        causal=method == "clm",
        precision=precision,
    )
    if method == "clm":
        return _by_likelihood(reader, ids, changes)
    return _by_marginals(reader, ids, changes, masked=method == "masked_marginal")


def _by_marginals(
    reader: ProteinReader, ids: Int64[np.ndarray, " n"], variants: Sequence[Variant], *, masked: bool
) -> Float32[np.ndarray, " V"]:
    tokens = reader.frame(ids)
    first = int(reader.tokenizer.is_letter(tokens).argmax())  # marks may stand before the residues
    sites = sorted({one.place for variant in variants for one in variant})
    windows = {site: window_around(first + site, len(tokens), reader.window) for site in sites}
    if masked:
        groups = [(windows[site], [site]) for site in sites]
    else:
        of_start: dict[int, list[int]] = {}
        for site in sites:
            of_start.setdefault(windows[site].start, []).append(site)
        groups = [(windows[own[0]], own) for own in of_start.values()]

    def examples() -> Iterator[Example]:
        for window, own in groups:
            shown = tokens[window].copy()
            if masked:
                shown[[first + site - window.start for site in own]] = reader.tokenizer.mark("mask")
            yield reader.example(shown)

    rows = [[first + site - window.start for site in own] for window, own in groups]
    with progress_bar("sites" if masked else "windows", len(rows)) as advance:
        logits = reader.logits_at(examples(), rows, advance)
    pairs = ((own, found) for (_, own), found in zip(groups, logits, strict=True))
    of_site = {site: row for own, found in pairs for site, row in zip(own, found, strict=True)}

    def odds(one: Substitution) -> float:
        old, new = reader.tokenizer.encode(one.wild_type + one.mutant)
        return float(of_site[one.place][new]) - float(of_site[one.place][old])

    return np.asarray([sum(odds(one) for one in variant) for variant in variants], np.float32)


def _by_likelihood(
    reader: ProteinReader, ids: Int64[np.ndarray, " n"], variants: Sequence[Variant]
) -> Float32[np.ndarray, " V"]:
    starts = window_starts(len(ids) + 1, reader.window, reader.overlap)
    parts = list(zip(starts, [0, *(start + reader.window for start in starts[:-1])], strict=True))
    changed = [
        (variant, part)
        for variant in dict.fromkeys(variants)
        for part, start in enumerate(starts)
        if any(start <= one.place + 1 and one.place < start + reader.window for one in variant)
    ]

    def examples() -> Iterator[Example]:
        yield from (_ask_for_next(reader, ids, *part) for part in parts)
        yield from (_ask_for_next(reader, _mutate(reader, ids, variant), *parts[part]) for variant, part in changed)

    num_examples = len(parts) + len(changed)
    with progress_bar("sequences", num_examples) as advance:
        found = reader.log_likelihoods(examples(), num_examples, advance)
    gains = dict.fromkeys(variants, 0.0)
    for (variant, part), log_likelihood in zip(changed, found[len(parts) :], strict=True):
        gains[variant] += float(log_likelihood) - float(found[part])
    return np.asarray([gains[variant] for variant in variants], np.float32)


def _ask_for_next(reader: ProteinReader, ids: Int64[np.ndarray, " n"], start: int, known: int) -> Example:
    """Ask for the token after each, in the window from ``start``, but for those that another window was asked for."""
    window = slice(start, start + reader.window)
    labels = np.append(ids, reader.tokenizer.mark("end"))[window]
    labels[: max(0, known - start)] = IGNORED
    return replace(reader.example(reader.frame(ids)[window]), labels=labels)


def _mutate(reader: ProteinReader, ids: Int64[np.ndarray, " n"], variant: Variant) -> Int64[np.ndarray, " n"]:
    mutated = ids.copy()
    mutated[[one.place for one in variant]] = reader.tokenizer.encode("".join(one.mutant for one in variant))
    return mutated
