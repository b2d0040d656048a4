"""Sparse counts in, arrays out: cell embeddings, gene embeddings, expression.

Cells are sorted by length and cut into batches by a token budget; no result depends on the batch it was in.
Letters: B cells, G genes of the model, A genes asked for, E decoder width.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Protocol, get_args, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from scipy import sparse
from torch import Tensor

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import EncoderPrecision, ModelConfig, Pool
from xtrimogene.data.packed_cells import PackedCells, pack_cells
from xtrimogene.data.read_ahead import read_ahead
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.data.token_runs import token_runs
from xtrimogene.errors import ConfigError
from xtrimogene.model.lower_precision import lower_precision
from xtrimogene.model.tail import Tail
from xtrimogene_kernels.segments import Segments

Progress = Callable[[int], None]  # called with the number of cells just done


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Take the device named, else CUDA, else MPS, else the CPU.

    Raises
    ------
    ConfigError
        The device named is not there.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type in ("cpu", "cuda", "mps"):
            torch.zeros(1, device=chosen)
            return chosen
    except (RuntimeError, AssertionError):
        pass
    raise ConfigError(f"device={str(device)!r} is not available here; cuda, mps or cpu is needed, try 'cpu'.")


def default_token_budget(device: torch.device, dim: int) -> int:
    """Tokens of a batch: on a CPU the widest activations, 4 x dim floats a token, then fill 16 MiB of cache."""
    return 2**20 // dim if device.type == "cpu" else 262_144


def vector_width(config: ModelConfig, pool: Pool | None = None) -> int:
    """Width of a cell's vector under this pooling. Default: the model's own."""
    dim = config.encoder.dim
    widths = {"all": 4 * dim, "max": dim, "mean": dim, "latent": config.latent_dim}
    chosen = pool or config.pool
    if chosen not in widths:
        raise ConfigError(f"pool={chosen!r} is not one of {', '.join(widths)}.")
    width = widths[chosen]
    if width is None:
        raise ConfigError("pool='latent' needs a model with a latent cell vector; choose all, max or mean.")
    return width


@runtime_checkable
class CellReader(Protocol):
    """What turns counts into vectors: `Inference`, or a service."""

    def embedding_dim(self, pool: Pool | None = None) -> int: ...

    def cell_embeddings(
        self,
        counts: sparse.csr_matrix,
        *,
        pool: Pool | None = None,
        read_depth: str | None = None,
        normalized: bool = False,
        progress: Progress | None = None,
    ) -> Float32[np.ndarray, "B _"]: ...


class Inference:
    """A model on a device, ready to read counts.

    Parameters
    ----------
    token_budget
        Expressed genes a batch may hold; a cell longer than that goes alone. Bounds memory and never changes a result.
    precision
        Of the encoder. "bfloat16" and "int8" (on a CPU) are faster where the processor multiplies them, and differ from
        float32 by 1 to 4 % (benchmarks/precision.py).
    """

    def __init__(
        self,
        model: PretrainedModel,
        *,
        device: str | torch.device | None = None,
        token_budget: int | None = None,
        precision: EncoderPrecision = "float32",
    ) -> None:
        self.device = choose_device(device)
        if precision not in get_args(EncoderPrecision):
            raise ConfigError(f"precision={precision!r} is not one of {', '.join(get_args(EncoderPrecision))}.")
        if token_budget is not None and token_budget < 1:
            raise ConfigError(f"token_budget={token_budget} must be at least 1.")
        self.token_budget = token_budget or default_token_budget(self.device, model.config.encoder.dim)
        place = torch.empty(0, device=self.device).device  # "cuda" is "cuda:0" on a tensor
        on_device = next(model.network.parameters()).device == place
        network = (model.network if on_device else deepcopy(model.network).to(self.device)).eval()
        self.network = lower_precision(network, precision, self.device)
        self.config = model.config

    def cell_embeddings(
        self,
        counts: sparse.csr_matrix,
        *,
        pool: Pool | None = None,
        read_depth: str | None = None,
        normalized: bool = False,
        progress: Progress | None = None,
    ) -> Float32[np.ndarray, "B _"]:
        """Return one vector per cell.

        Parameters
        ----------
        counts
            Cells x the model's genes.
        pool, read_depth
            Default: the model's own.
        normalized
            The values are log1p already and taken as given.

        Returns
        -------
        float32; NaN for a cell that cannot be read (a total of 1 or less in the model's genes).
        """
        depth = ReadDepth.parse(read_depth or self.config.read_depth)
        with torch.inference_mode():
            batches = self._batches(counts, depth, normalized)
            results = ((rows, self.network.embed_cells(packed, pool)) for rows, packed in batches)
            return self._collected(results, (counts.shape[0], self.embedding_dim(pool)), progress)

    def tail_embeddings(
        self,
        counts: sparse.csr_matrix,
        tails: Sequence[Tail],
        *,
        read_depth: str | None = None,
        progress: Progress | None = None,
    ) -> Float32[np.ndarray, "K B P"]:
        """Return each cell's vector by every one of K tails of equal depth: what is below them is run once."""
        depth, (num_layers,) = ReadDepth.parse(read_depth or self.config.read_depth), {len(one.blocks) for one in tails}

        def vectors(packed: PackedCells) -> Float[Tensor, "b K P"]:
            below = self.network.encode_below(packed, num_layers)
            return torch.stack([tail(below, packed) for tail in tails], dim=1)

        with torch.inference_mode():
            results = ((rows, vectors(packed)) for rows, packed in self._batches(counts, depth, normalized=False))
            shape = (counts.shape[0], len(tails), self.embedding_dim(tails[0].pool))
            return np.ascontiguousarray(self._collected(results, shape, progress).swapaxes(0, 1))

    def gene_embeddings(
        self,
        counts: sparse.csr_matrix,
        *,
        genes: Int64[np.ndarray, "A"] | None = None,
        measured: Bool[np.ndarray, "G"] | Bool[np.ndarray, "R G"] | None = None,
        panel: Int64[np.ndarray, "B"] | None = None,
        read_depth: str | None = None,
        normalized: bool = False,
        progress: Progress | None = None,
    ) -> Float32[np.ndarray, "B A E"]:
        """Return context embeddings of genes (default: all of them, in the model's order) in each cell.

        Parameters
        ----------
        measured, panel
            Which of the model's genes the data has; the others are unknown, not zero. For an outer join one row per
            panel, and the row of each cell. Default: all.
        """
        return self._decode(counts, genes, measured, panel, read_depth, normalized, progress, lambda vectors: vectors)

    def expression(
        self,
        counts: sparse.csr_matrix,
        *,
        genes: Int64[np.ndarray, "A"] | None = None,
        measured: Bool[np.ndarray, "G"] | Bool[np.ndarray, "R G"] | None = None,
        panel: Int64[np.ndarray, "B"] | None = None,
        read_depth: str | None = None,
        normalized: bool = False,
        progress: Progress | None = None,
    ) -> Float32[np.ndarray, "B A"]:
        """Return what the decoder predicts of genes (default: all of them) in each cell: log1p of counts per 10,000."""
        return self._decode(counts, genes, measured, panel, read_depth, normalized, progress, self.network.head)

    def expression_from_latent(
        self,
        counts: sparse.csr_matrix,
        *,
        genes: Int64[np.ndarray, "A"] | None = None,
        read_depth: str | None = None,
        normalized: bool = False,
        progress: Progress | None = None,
    ) -> Float32[np.ndarray, "B A"]:
        """Return what the latent vector alone says of genes (default: all) in each cell: log1p of counts per 10,000."""
        self.embedding_dim("latent")
        depth = ReadDepth.parse(read_depth or self.config.read_depth)
        asked = self._asked(genes)
        with torch.inference_mode():
            batches = self._batches(counts, depth, normalized)
            results = ((rows, self._from_latent(packed, depth)[:, asked]) for rows, packed in batches)
            return self._collected(results, (counts.shape[0], len(asked)), progress)

    def embedding_dim(self, pool: Pool | None = None) -> int:
        """Width of a cell's vector under this pooling."""
        return vector_width(self.config, pool)

    def _decode(
        self,
        counts: sparse.csr_matrix,
        genes: Int64[np.ndarray, "A"] | None,
        measured: Bool[np.ndarray, "G"] | Bool[np.ndarray, "R G"] | None,
        panel: Int64[np.ndarray, "B"] | None,
        read_depth: str | None,
        normalized: bool,
        progress: Progress | None,
        finish: Callable[[Tensor], Tensor],
    ) -> np.ndarray:
        depth = ReadDepth.parse(read_depth or self.config.read_depth)
        asked = self._asked(genes)
        num_asked = len(asked)

        def answers(packed: PackedCells) -> Tensor:
            segments = Segments.from_lengths([num_asked] * packed.num_cells, self.device)
            tokens, repeated = self.network.encode(packed), asked.repeat(packed.num_cells)
            finished = finish(self.network.decode(tokens, packed, repeated, segments, blank=blank))  # (b A, ...)
            return finished.view(packed.num_cells, num_asked, *finished.shape[1:])

        with torch.inference_mode():
            blank = self.network.blank_genes()
            batches = self._batches(counts, depth, normalized, measured, panel, self.config.num_genes)
            width = finish(torch.zeros(1, self.config.decoder.dim, device=self.device)).shape[1:]
            results = ((rows, answers(packed)) for rows, packed in batches)
            return self._collected(results, (counts.shape[0], num_asked, *width), progress)

    def _asked(self, genes: Int64[np.ndarray, "A"] | None) -> Int64[Tensor, "A"]:
        """Return places of genes (default: all), on the device."""
        places = np.arange(self.config.num_genes) if genes is None else np.asarray(genes, dtype=np.int64)
        return torch.from_numpy(places).to(self.device)

    def _batches(
        self,
        counts: sparse.csr_matrix,
        depth: ReadDepth,
        normalized: bool,
        measured: Bool[np.ndarray, "G"] | Bool[np.ndarray, "R G"] | None = None,
        panel: Int64[np.ndarray, "B"] | None = None,
        tokens_per_cell: int = 0,
    ) -> Iterator[tuple[Int64[np.ndarray, "b"], PackedCells]]:
        """Rows of ``counts`` and the cells packed from them, T and S appended, on the device."""
        if counts.shape[1] != self.config.num_genes:
            raise ConfigError(
                f"counts has {counts.shape[1]:,} columns, the model {self.config.num_genes:,} genes; match them first."
            )
        lengths = np.diff(counts.indptr)
        readable = np.flatnonzero(readable_cells(counts))
        order = readable[np.argsort(lengths[readable], kind="stable")]
        on_cuda = self.device.type == "cuda"

        def prepared() -> Iterator[tuple[Int64[np.ndarray, "b"], PackedCells]]:
            for run in token_runs(np.maximum(lengths, tokens_per_cell)[order], self.token_budget):
                rows = order[run]
                own_panel = None if panel is None else panel[rows]
                packed = pack_cells(counts[rows], measured=measured, panel=own_panel, normalized=normalized)
                packed = self.network.append_read_depth(packed, *depth.tokens(packed.totals))
                yield rows, packed.pin_memory() if on_cuda else packed

        for rows, packed in read_ahead(prepared()) if on_cuda else prepared():
            yield rows, packed.to(self.device, non_blocking=True)

    def _collected(
        self,
        results: Iterator[tuple[Int64[np.ndarray, "b"], Tensor]],
        shape: tuple[int, ...],
        progress: Progress | None,
    ) -> np.ndarray:
        """Lay results by their rows; NaN in a row that has none."""
        out = np.full(shape, np.nan, dtype=np.float32)
        for rows, values in self._fetched(results):
            out[rows] = values
            if progress is not None:
                progress(len(rows))
        return out

    def _fetched(
        self, results: Iterator[tuple[Int64[np.ndarray, "b"], Tensor]]
    ) -> Iterator[tuple[Int64[np.ndarray, "b"], np.ndarray]]:
        """Bring results to the host in float32: from a GPU one batch late, so that it never waits for the host."""
        if self.device.type != "cuda":
            yield from ((rows, values.float().cpu().numpy()) for rows, values in results)
            return
        waiting = None
        for rows, values in results:
            copy = torch.empty(values.shape, dtype=torch.float32, pin_memory=True)
            copy.copy_(values.float(), non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
            if waiting is not None:
                waiting[2].synchronize()
                yield waiting[0], waiting[1].numpy()
            waiting = rows, copy, copied
        if waiting is not None:
            waiting[2].synchronize()
            yield waiting[0], waiting[1].numpy()

    def _from_latent(self, packed: PackedCells, depth: ReadDepth) -> Float32[Tensor, "b G"]:
        target, _ = depth.tokens(packed.totals)
        return self.network.predict_from_latent(self.network.latent(self.network.encode(packed), packed), target)


def readable_cells(counts: sparse.csr_matrix) -> Bool[np.ndarray, "B"]:
    """Cells with a total above 1: S = log10(total) has to be positive."""
    return np.asarray(counts.sum(axis=1)).ravel() > 1.0
