"""xTrimoGene: the one file that joins the parts.

The encoder reads the genes a cell expresses; the decoder reads every gene and predicts the rest.
Letters: B cells; N visible tokens of all cells, packed; M positions asked for; G genes; P = G + 2, BP of all cells;
D, E encoder, decoder width; L latent width.
Source: xTrimoGene (NeurIPS 2023, arXiv 2311.15156), scFoundation (Nature Methods 2024).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from xtrimogene.config import DecoderKind, ModelConfig, Pool
from xtrimogene.data.masking import HiddenGenes, MaskedCells
from xtrimogene.data.packed_cells import PackedCells
from xtrimogene.model.cross_decoder import CrossDecoder
from xtrimogene.model.decoder import Decoder
from xtrimogene.model.encoder import Encoder
from xtrimogene.model.gene_embedding import GeneEmbedding
from xtrimogene.model.heads import ExpressionHead, LatentHead
from xtrimogene.model.initialization import initialize
from xtrimogene.model.pooling import pool_cells, read_latent
from xtrimogene.model.value_embedding import ValueEmbedding
from xtrimogene_kernels.segments import Segments


@dataclass(frozen=True)
class BlankGenes:
    """Every position as a zero and as unknown, alike in all cells: what a decoder over all genes reads there.

    One tensor of each, or that and what the first layer makes of it: queries, keys and values.
    """

    zero: tuple[Float[Tensor, "P E"], ...]
    unknown: tuple[Float[Tensor, "P E"], ...] | None  # None where it is not asked for


class XTrimoGene(nn.Module):
    """``XTrimoGene(config, seed=0)``; keeps no activation between calls. Without a seed no weight is drawn."""

    def __init__(self, config: ModelConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        dim = config.encoder.dim
        self.value_embedding = ValueEmbedding(dim, config.num_bins, config.bin_alpha)
        self.gene_embedding = GeneEmbedding(config.num_genes, dim)
        self.encoder = Encoder(config.encoder)
        kinds: dict[DecoderKind, type[Decoder | CrossDecoder]]
        kinds = {"performer": Decoder, "cross_attention": CrossDecoder}
        self.decoder = kinds[config.decoder.kind](dim, config.decoder)
        self.head = ExpressionHead(config.decoder.dim)
        self.latent_head = None if config.latent_dim is None else LatentHead(dim, config.latent_dim, config.num_genes)
        if seed is not None:
            with torch.no_grad():
                initialize(self, seed)

    def append_read_depth(
        self, packed: PackedCells, target: Float32[Tensor, "B"], source: Float32[Tensor, "B"]
    ) -> PackedCells:
        """End each cell with the tokens T and S (log10 of a total); everything below takes cells ended so."""
        segments = Segments.from_lengths([length + 2 for length in packed.segments.lengths], packed.values.device)
        last = segments.cu_seqlens[1:].long() - 1
        rows = torch.arange(len(packed.values), device=packed.values.device)
        rows = rows + 2 * packed.cell_of_row()
        gene_ids = packed.gene_ids.new_empty(segments.num_rows)
        values = packed.values.new_empty(segments.num_rows)
        gene_ids[rows], values[rows] = packed.gene_ids, packed.values
        gene_ids[last - 1], values[last - 1] = self.gene_embedding.target_depth_id, target
        gene_ids[last], values[last] = self.gene_embedding.source_depth_id, source
        return replace(packed, gene_ids=gene_ids, values=values, segments=segments)

    def encode(self, packed: PackedCells) -> Float[Tensor, "N D"]:
        """Return one context vector per visible token."""
        return self.encoder(self.embed_tokens(packed), packed.segments)

    def embed_tokens(self, packed: PackedCells) -> Float[Tensor, "N D"]:
        """Return what the encoder's first layer reads."""
        return self.value_embedding(packed.values) + self.gene_embedding(packed.gene_ids)

    def encode_below(self, packed: PackedCells, num_layers: int) -> Float[Tensor, "N D"]:
        """Return what the last ``num_layers`` of the encoder read (`xtrimogene.model.tail.Tail`)."""
        x = self.embed_tokens(packed)
        for block in self.encoder.blocks[: len(self.encoder.blocks) - num_layers]:
            x = block(x, packed.segments)
        return x

    def pool(self, tokens: Float[Tensor, "N D"], packed: PackedCells, pool: Pool) -> Float[Tensor, "B _"]:
        """Pool the encoder's tokens, as `pool_cells`."""
        return pool_cells(tokens, packed, pool, self.latent_head)

    def latent(self, tokens: Float[Tensor, "N D"], packed: PackedCells) -> Float[Tensor, "B L"]:
        """Read each cell's latent vector off the encoder's tokens: what `predict_from_latent` takes."""
        assert self.latent_head is not None
        return read_latent(tokens, packed, self.latent_head)

    def embed_cells(self, packed: PackedCells, pool: Pool | None = None) -> Float[Tensor, "B _"]:
        """Return one vector per cell."""
        return self.pool(self.encode(packed), packed, pool or self.config.pool)

    def decode(
        self,
        tokens: Float[Tensor, "N D"],
        packed: PackedCells,
        asked: Int64[Tensor, "M"],
        asked_segments: Segments,
        hidden: HiddenGenes | None = None,
        blank: BlankGenes | None = None,
    ) -> Float[Tensor, "M E"]:
        """Return gene context embeddings at the genes asked for.

        Parameters
        ----------
        tokens
            The encoder's output for ``packed``.
        asked, asked_segments
            Gene ids, cell after cell.
        hidden
            Genes the encoder did not see though they may be expressed; all others count as zero, or as unknown where
            they were not measured.
        blank
            Of `blank_genes`, which saves the first layer's work at all other genes.
        """
        if isinstance(self.decoder, CrossDecoder):
            seen = tokens + self.gene_embedding(packed.gene_ids)  # (N, D)
            queries = self._queries(seen, packed, asked, asked_segments, hidden)  # (M, D)
            project = self.decoder.project
            return self.decoder(project(queries), asked_segments, project(seen), packed.segments)
        num_positions = self.config.num_genes + 2
        x, *read = self._decoder_input(tokens, packed, hidden, blank)  # (B P, E) each
        segments = Segments.from_lengths([num_positions] * packed.num_cells, x.device)
        rows = _flat_positions(asked, asked_segments, num_positions)
        return self.decoder(x, segments, rows, asked_segments, read)

    def blank_genes(self) -> BlankGenes | None:
        """Return what `decode` needs to make only once for many cells; None: of this decoder there is nothing.

        For inference. In training the first layer reads them for each cell: a sharded block is whole in its own forward
        alone, and 3 (scfoundation) to 11 % of a step's operations (10M with this decoder) would be saved.
        """
        if isinstance(self.decoder, CrossDecoder):
            return None
        return self._blank_genes(self._projected_and_read, unknown=self.config.unmeasured == "mask")

    def forward(self, batch: MaskedCells) -> Float[Tensor, "M"]:
        """Predict the hidden values of a training batch through the decoder: log1p of counts per 10,000."""
        return self.head(self.decode_hidden(batch))

    def decode_hidden(self, batch: MaskedCells) -> Float[Tensor, "M E"]:
        """Return gene context embeddings at the hidden genes of a training batch."""
        tokens, packed = self.encode_visible(batch)
        return self.decode(tokens, packed, batch.hidden.gene_ids, batch.hidden.segments, batch.hidden)

    def encode_visible(self, batch: MaskedCells) -> tuple[Float[Tensor, "N D"], PackedCells]:
        """Return the context vectors of what is visible of a training batch, told both depths, and what was encoded."""
        packed = self.append_read_depth(batch.visible, batch.raw.totals.log10(), batch.visible.totals.log10())
        return self.encode(packed), packed

    def predict_from_latent(
        self, latent: Float[Tensor, "B L"], target_depth: Float32[Tensor, "B"]
    ) -> Float[Tensor, "B G"]:
        """Predict every gene's value from `latent`, which is no embedding, and log10 of the total wanted (T) alone."""
        assert self.latent_head is not None
        return self.latent_head(latent, target_depth, self.gene_embedding.table[: self.config.num_genes])

    def _queries(
        self,
        seen: Float[Tensor, "N D"],
        packed: PackedCells,
        asked: Int64[Tensor, "M"],
        asked_segments: Segments,
        hidden: HiddenGenes | None,
    ) -> Float[Tensor, "M D"]:
        """Return what the paper's decoder reads at the genes asked for: seen, shown, zero or unknown."""
        num_positions = self.config.num_genes + 2
        at = _flat_positions(asked, asked_segments, num_positions)  # (M,)
        zero = self.value_embedding(packed.values.new_zeros(1))  # (1, D)
        if self.config.unmeasured == "mask":
            known = nn.functional.pad(packed.measured, (0, 2), value=True)[packed.panel]  # (B, P)
            zero = torch.where(known.flatten()[at, None], zero, self.value_embedding.mask)  # (M, D)
        read, places = seen, _flat_positions(packed.gene_ids, packed.segments, num_positions)
        if hidden is not None:
            shown = self.value_embedding.shown(hidden.shown) + self.gene_embedding(hidden.gene_ids)
            read = torch.cat([read, shown])
            places = torch.cat([places, _flat_positions(hidden.gene_ids, hidden.segments, num_positions)])
        row_at = asked.new_full((packed.num_cells * num_positions,), -1)  # (B P,)
        row_at[places] = torch.arange(len(read), device=asked.device)
        row = row_at[at]  # (M,), -1 where nothing was read
        return torch.where(row[:, None] < 0, zero + self.gene_embedding(asked), read[row.clamp(min=0)])

    def _decoder_input(
        self,
        tokens: Float[Tensor, "N D"],
        packed: PackedCells,
        hidden: HiddenGenes | None,
        blank: BlankGenes | None = None,
    ) -> list[Float[Tensor, "BP E"]]:
        """Zeros (or unknowns) everywhere, then what the encoder saw and what is shown of the hidden genes."""
        num_positions = self.config.num_genes + 2
        told = tokens + self.gene_embedding(packed.gene_ids)  # (N, D)
        places = _flat_positions(packed.gene_ids, packed.segments, num_positions)
        if hidden is not None:
            shown = self.value_embedding.shown(hidden.shown) + self.gene_embedding(hidden.gene_ids)
            told = torch.cat([told, shown])
            places = torch.cat([places, _flat_positions(hidden.gene_ids, hidden.segments, num_positions)])
        unknown = self.config.unmeasured == "mask" and not bool(packed.measured.all())
        look = self._projected if blank is None else self._projected_and_read
        blank = blank or self._blank_genes(look, unknown=unknown)
        if unknown:
            assert blank.unknown is not None
            known = nn.functional.pad(packed.measured, (0, 2), value=True)[packed.panel, :, None]  # (B, P, 1)
            pairs = zip(blank.zero, blank.unknown, strict=True)
            parts = [torch.where(known, *pair).flatten(0, 1) for pair in pairs]  # (B P, E) each
        else:
            parts = [zero.repeat(packed.num_cells, 1) for zero in blank.zero]
        return [part.index_copy_(0, places, own.to(part.dtype)) for part, own in zip(parts, look(told), strict=True)]

    def _blank_genes(
        self, look: Callable[[Float[Tensor, "P D"]], tuple[Float[Tensor, "P E"], ...]], *, unknown: bool
    ) -> BlankGenes:
        table = self.gene_embedding.table
        zero = self.value_embedding(torch.zeros(1, device=table.device))  # (1, D)
        return BlankGenes(look(table + zero), look(table + self.value_embedding.mask) if unknown else None)

    def _projected(self, x: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "N E"], ...]:
        return (self.decoder.project(x),)

    def _projected_and_read(self, x: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "N E"], ...]:
        assert isinstance(self.decoder, Decoder)
        x = self.decoder.project(x)
        return (x, *self.decoder.read(x))


def _flat_positions(gene_ids: Int64[Tensor, "N"], segments: Segments, num_positions: int) -> Int64[Tensor, "N"]:
    return segments.segment_of_row() * num_positions + gene_ids
