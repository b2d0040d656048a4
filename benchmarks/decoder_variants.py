"""Decoders that benchmarks/decoder_study.py tries beside the two of the package: what else a query may read.

"latents" reads learned rows beside the cell's tokens, the same for every cell. "zeros" reads every gene as the paper's
decoder does, zeros and hidden ones too, by FAVOR+ attention whose sum over the zeros is made once for a batch and
corrected for each cell; with one layer it is the paper's decoder but for the stabilizer of the keys.
Letters: B cells; N visible tokens, M queries, K rows read, packed; P positions of a cell; R panels; E decoder width;
H heads; d = E / H; m features.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from xtrimogene.config import DecoderConfig, ModelConfig
from xtrimogene.data.masking import HiddenGenes
from xtrimogene.data.packed_cells import PackedCells
from xtrimogene.model.attention import LinearAttention
from xtrimogene.model.cross_decoder import CrossDecoder
from xtrimogene.model.flops import training_step_flops
from xtrimogene.model.initialization import initialize
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene_kernels.segments import Segments

NUM_LATENTS = 16
EPSILON = 1e-4


class LatentsDecoder(CrossDecoder):
    def __init__(self, encoder_dim: int, config: DecoderConfig) -> None:
        super().__init__(encoder_dim, config)
        self.latents = nn.Parameter(0.5 * torch.randn(NUM_LATENTS, config.dim))

    def forward(
        self, x: Float[Tensor, "M E"], segments: Segments, memory: Float[Tensor, "N E"], memory_segments: Segments
    ) -> Float[Tensor, "M E"]:
        cells = memory.split(memory_segments.lengths)
        longer = Segments.from_lengths([NUM_LATENTS + length for length in memory_segments.lengths])
        return super().forward(
            x, segments, torch.cat([part for cell in cells for part in (self.latents, cell)]), longer
        )


class LatentsNetwork(XTrimoGene):
    def __init__(self, config: ModelConfig, *, seed: int) -> None:
        super().__init__(config, seed=None)
        torch.manual_seed(seed)
        self.decoder = LatentsDecoder(config.encoder.dim, config.decoder)
        with torch.no_grad():
            initialize(self, seed)


@dataclass(frozen=True)
class Memory:
    """What the queries read: rows that differ from cell to cell, and every position as a zero and as unknown."""

    rows: tuple[Float[Tensor, "K E"], ...]
    ids: tuple[Int64[Tensor, "K"], ...]
    zero: Float[Tensor, "P E"]
    unknown: Float[Tensor, "P E"]
    measured: Bool[Tensor, "R P"]
    panel: list[int]


class ZerosAttention(LinearAttention):
    def forward(self, x: Float[Tensor, "M E"], segments: Segments, memory: Memory) -> Float[Tensor, "M E"]:  # type: ignore[override]
        zero_exponents, zero_values = self._keys(memory.zero)
        unknown_exponents, unknown_values = self._keys(memory.unknown)
        top = zero_exponents.detach().amax()  # the same for every cell, whatever the batch
        zero, unknown = ((one - top).exp() + EPSILON for one in (zero_exponents, unknown_exponents))  # (H, P, m)
        states = [
            zero[:, known].mT @ zero_values[:, known] + unknown[:, ~known].mT @ unknown_values[:, ~known]
            for known in memory.measured
        ]  # (H, m, d + 1) each
        outputs = []
        queries = self._heads(self.query(x)).split(segments.lengths, 1)
        for query, rows, ids, panel in zip(queries, memory.rows, memory.ids, memory.panel, strict=True):
            exponents, values = self._keys(rows)
            features = torch.cat([(exponents - top).exp() + EPSILON, -zero[:, ids]], 1)  # in place of their zeros
            state = states[panel] + features.mT @ torch.cat([values, zero_values[:, ids]], 1)  # (H, m, d + 1)
            u = self._exponents(query)
            out = ((u - u.detach().amax(-1, keepdim=True)).exp() + EPSILON) @ state  # (H, M of the cell, d + 1)
            outputs.append(out[..., :-1] / out[..., -1:])
        return self.out(torch.cat(outputs, 1).transpose(0, 1).flatten(1))

    def _keys(self, rows: Float[Tensor, "K E"]) -> tuple[Float[Tensor, "H K m"], Float[Tensor, "H K d+1"]]:
        """Return the features' exponents, and the values with a one that sums to the normalizer."""
        return self._exponents(self._heads(self.key(rows))), F.pad(self._heads(self.value(rows)), (0, 1), value=1.0)

    def _heads(self, rows: Float[Tensor, "K E"]) -> Float[Tensor, "H K d"]:
        return rows.unflatten(-1, (self.num_heads, -1)).transpose(0, 1)

    def _exponents(self, rows: Float[Tensor, "H K d"]) -> Float[Tensor, "H K m"]:
        scaled = rows * rows.shape[-1] ** -0.25
        return scaled @ self.projection.T - scaled.square().sum(-1, keepdim=True) / 2


class ZerosNetwork(XTrimoGene):
    """The keys and values of a layer come from what the decoder is given: only queries are carried on."""

    def __init__(self, config: ModelConfig, *, seed: int) -> None:
        super().__init__(config, seed=None)
        for block in self.decoder.blocks:
            decoder = config.decoder
            block.attention = ZerosAttention(decoder.dim, decoder.num_heads, decoder.num_features)
        with torch.no_grad():
            initialize(self, seed)

    def decode(
        self,
        tokens: Float[Tensor, "N D"],
        packed: PackedCells,
        asked: Int64[Tensor, "M"],
        asked_segments: Segments,
        hidden: HiddenGenes | None = None,
    ) -> Float[Tensor, "M E"]:
        seen = tokens + self.gene_embedding(packed.gene_ids)
        queries = self._queries(seen, packed, asked, asked_segments, hidden)
        rows, ids = list(seen.split(packed.segments.lengths)), list(packed.gene_ids.split(packed.segments.lengths))
        if hidden is not None:
            shown = self.value_embedding.shown(hidden.shown) + self.gene_embedding(hidden.gene_ids)
            lengths = hidden.segments.lengths
            rows = [torch.cat(both) for both in zip(rows, shown.split(lengths), strict=True)]
            ids = [torch.cat(both) for both in zip(ids, hidden.gene_ids.split(lengths), strict=True)]
        project, table = self.decoder.project, self.gene_embedding.table
        levels = (self.value_embedding(tokens.new_zeros(1)), self.value_embedding.mask)
        zero, unknown = (project(table + level) for level in levels)
        measured = F.pad(packed.measured, (0, 2), value=True)
        rows = [project(row) for row in rows]
        x = self.decoder.project(queries)
        for block in self.decoder.blocks:
            norm = block.memory_norm
            own = tuple(norm(row) for row in rows)
            memory = Memory(own, tuple(ids), norm(zero), norm(unknown), measured, packed.panel.tolist())
            x = x + block.attention(block.attention_norm(x), asked_segments, memory)
            x = x + block.contract(F.gelu(block.expand(block.feed_forward_norm(x))))
        return self.decoder.outer_norm(self.decoder.inner_norm(x))


def latents_flops(config: ModelConfig, num_visible: int, num_hidden: int, batch_size: int) -> int:
    longer = training_step_flops(config, num_visible, num_hidden, num_cells=batch_size, num_decoded=batch_size)
    decoder = config.decoder
    rows = 4 * decoder.dim**2 + 4 * num_hidden * decoder.dim  # key, value; scores, mix
    return longer + 3 * decoder.num_layers * NUM_LATENTS * rows


def zeros_flops(config: ModelConfig, num_visible: int, num_hidden: int, batch_size: int) -> int:
    """Backward counted as twice forward, in full."""
    decoder, positions = config.decoder, config.num_genes + 2
    dim, features, num_rows = decoder.dim, decoder.num_features, num_visible + num_hidden
    softmax = num_visible * 4 * dim**2 + 4 * num_hidden * num_visible * dim
    linear = num_rows * (4 * dim**2 + 6 * features * dim)  # key, value; features, state of rows and of their zeros
    linear += num_hidden * 4 * features * dim
    shared = 2 * positions * (4 * dim**2 + 4 * features * dim)  # zero and unknown, once for a batch
    shared += 4 * positions * config.encoder.dim * dim
    rest = training_step_flops(config, num_visible, num_hidden, num_cells=batch_size, num_decoded=batch_size)
    return rest + 3 * decoder.num_layers * (linear - softmax + shared // batch_size)
