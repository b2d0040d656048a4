"""Sequences in, arrays out: vectors of proteins and residues, logits, log-likelihoods.

Sequences are cut into batches by a token budget and never padded; no result depends on the batch it was in. One that is
longer than the window is read in windows that overlap, and each of its residues gets the plain mean of its vectors in
all windows that hold it.
Letters: S sequences or examples; n tokens, r residues of one; N tokens of a batch, packed; D width;
V vocabulary.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, assert_never, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch.nn import functional as F

from xtrimogene.config import require
from xtrimogene.inference import Progress, choose_device, default_token_budget
from xtrimogene.protein.examples.example import IGNORED, Example, no_labels, source_positions
from xtrimogene.protein.network.packed_sequences import PackedSequences, pack_labels
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.network.to_read import network_to_read
from xtrimogene.protein.reading.batches import cut_batches
from xtrimogene.protein.reading.windows import times_read, window_starts
from xtrimogene.protein.tokenizer import ProteinTokenizer

ReaderPrecision = Literal["float32", "bfloat16"]
ProteinPool = Literal["mean", "last"]


class ProteinReader:
    """A protein model on a device, ready to read sequences of ids.

    Parameters
    ----------
    device
        Default: a GPU where there is one.
    token_budget
        Tokens a batch may hold; a window longer than that goes alone. Bounds memory and never changes a result.
    window
        Tokens that are read at once, marks included. Default and most: what the model was trained on.
    overlap
        Tokens that neighbouring windows share. Default: half of the window.
    causal
        Each token sees those before it only, as in a model that was trained on CLM alone.
    precision
        "bfloat16" is faster on a GPU.

    Raises
    ------
    ConfigError
        A setting that cannot work.
    """

    def __init__(
        self,
        network: ProteinLM,
        tokenizer: ProteinTokenizer,
        *,
        device: str | torch.device | None = None,
        token_budget: int | None = None,
        window: int | None = None,
        overlap: int | None = None,
        causal: bool = False,
        precision: ReaderPrecision = "float32",
    ) -> None:
        longest = network.config.max_length
        self.window = longest if window is None else window
        self.overlap = self.window // 2 if overlap is None else overlap
        require(
            8 <= self.window <= longest,
            f"window={self.window} must lie between 8 and the {longest} tokens that the model was trained on.",
        )
        require(
            0 <= self.overlap < self.window,
            f"overlap={self.overlap} must not be negative and less than window={self.window}.",
        )
        require(token_budget is None or token_budget >= 1, f"token_budget={token_budget} must be at least 1.")
        require(
            precision in get_args(ReaderPrecision),
            f"precision={precision!r} is not one of {', '.join(get_args(ReaderPrecision))}.",
        )
        self.device = choose_device(device)
        self.token_budget = token_budget or default_token_budget(self.device, network.config.dim)
        self.tokenizer, self.causal, self.precision = tokenizer, causal, precision
        self.network = network_to_read(network, self.device)

    @property
    def dim(self) -> int:
        return self.network.config.dim

    def pooled(
        self, sequences: Sequence[Int64[np.ndarray, "_"]], pool: ProteinPool = "mean"
    ) -> Float32[np.ndarray, "S D"]:
        """Return one vector per sequence of letters' ids.

        Parameters
        ----------
        pool
            "mean" of the residues' vectors, or that of the "last" residue, which has read all others of a causal model.
        """
        pieces = [(i, *piece) for i, ids in enumerate(sequences) for piece in self._pieces(ids, pool)]
        examples = [example for _, example, _ in pieces]
        out = np.zeros((len(sequences), self.dim), np.float32)
        for indices, _, packed in self._batches(examples):
            with self._computing():
                hidden = self.network.hidden(packed).float()  # (N, D)
                weight = torch.from_numpy(np.concatenate([pieces[i][2] for i in indices])).to(self.device)
                sums = hidden.new_zeros(len(indices), self.dim)
                sums.index_add_(0, packed.segments.segment_of_row(), hidden * weight[:, None])
            np.add.at(out, [pieces[i][0] for i in indices], sums.cpu().numpy())
        return out

    def residues(self, sequences: Sequence[Int64[np.ndarray, "_"]]) -> list[Float32[np.ndarray, "_ D"]]:
        """Return one vector per residue of each sequence."""
        framed = [self.frame(ids) for ids in sequences]
        out = [np.zeros((len(tokens), self.dim), np.float32) for tokens in framed]
        places = [(i, start) for i, tokens in enumerate(framed) for start in self._starts(tokens)]
        examples = [self.example(framed[i][start : start + self.window]) for i, start in places]
        for indices, _, packed in self._batches(examples):
            with self._computing():
                hidden = self.network.hidden(packed).float().cpu()
            for index, rows in zip(indices, torch.split(hidden, list(packed.segments.lengths)), strict=True):
                which, start = places[index]
                out[which][start : start + len(rows)] += rows.numpy()
        for tokens, vectors in zip(framed, out, strict=True):
            vectors /= times_read(len(tokens), self.window, self._starts(tokens))[:, None]
        return [vectors[self.tokenizer.is_letter(tokens)] for tokens, vectors in zip(framed, out, strict=True)]

    def logits_at(
        self, examples: Iterable[Example], rows: Sequence[Sequence[int]], progress: Progress | None = None
    ) -> list[Float32[np.ndarray, "_ V"]]:
        """Return the logits at these rows of each example."""
        out = [np.empty((0, self.network.config.vocabulary_size), np.float32)] * len(rows)
        for indices, _, packed in self._batches(examples):
            firsts = np.cumsum([0, *packed.segments.lengths])
            asked = [first + np.asarray(rows[i], np.int64) for first, i in zip(firsts, indices, strict=False)]
            with self._computing():
                hidden = self.network.hidden(packed)[torch.from_numpy(np.concatenate(asked)).to(self.device)]
                logits = self.network.head(hidden).float().cpu()
            for i, own in zip(indices, torch.split(logits, [len(one) for one in asked]), strict=True):
                out[i] = own.numpy()
            if progress is not None:
                progress(len(indices))
        return out

    def log_likelihoods(
        self, examples: Iterable[Example], num_examples: int, progress: Progress | None = None
    ) -> Float64[np.ndarray, " S"]:
        """Return the log-likelihood of each example's labels, summed in float64: a score is a small difference."""
        out = np.zeros(num_examples)
        for indices, batch, packed in self._batches(examples):
            labels = pack_labels(batch).to(self.device)
            with self._computing():
                logits = self.network(packed).float()  # (N, V)
                losses = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")  # (N,)
            per_example = torch.split(losses.cpu().double(), list(packed.segments.lengths))  # mps has no float64
            out[indices] = [-float(one.sum()) for one in per_example]
            if progress is not None:
                progress(len(indices))
        return out

    def frame(self, ids: Int64[np.ndarray, " r"]) -> Int64[np.ndarray, " n"]:
        """Return a whole sequence as it is read: with the marks that it was trained with."""
        if self.causal:
            return np.concatenate([[self.tokenizer.mark("begin")], ids])
        return self.tokenizer.frame(ids)

    def example(self, tokens: Int64[np.ndarray, " n"]) -> Example:
        """Return tokens that stand where they stand, and nothing that is asked for."""
        prefix_length = 0 if self.causal else len(tokens)
        return Example(tokens, source_positions(len(tokens)), no_labels(len(tokens)), prefix_length)

    def _batches(self, examples: Iterable[Example]) -> Iterator[tuple[list[int], list[Example], PackedSequences]]:
        for places, batch in cut_batches(examples, self.token_budget):
            yield places, batch, PackedSequences.from_examples(batch).to(self.device)

    def _pieces(
        self, ids: Int64[np.ndarray, " r"], pool: ProteinPool
    ) -> list[tuple[Example, Float32[np.ndarray, "_"]]]:
        """Windows of a sequence, and what each token's vector counts in the sequence's."""
        tokens = self.frame(ids)
        starts = self._starts(tokens)
        share = _shares(self.tokenizer.is_letter(tokens), pool) / times_read(len(tokens), self.window, starts)
        windows = [slice(start, start + self.window) for start in starts]
        return [(self.example(tokens[window]), share[window].astype(np.float32)) for window in windows]

    def _starts(self, tokens: Int64[np.ndarray, " n"]) -> list[int]:
        return window_starts(len(tokens), self.window, self.overlap)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        lower = self.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=lower):
            yield


def _shares(is_letter: Bool[np.ndarray, " n"], pool: ProteinPool) -> np.ndarray:
    match pool:
        case "mean":
            return is_letter / is_letter.sum()
        case "last":
            return np.arange(len(is_letter)) == np.flatnonzero(is_letter)[-1]
        case _:
            assert_never(pool)
