"""The network as one would first write it, with the same weights: what the benchmarks of speed are measured against.

The encoder is PyTorch's, over batches padded to their longest cell; the decoder makes FAVOR+'s features whole, runs
every layer at every position, and reads the positions wanted at the end.
"""

import torch
from embed import as_torch_encoder
from torch import Tensor, nn
from torch.nn import functional as F

from xtrimogene.data.masking import HiddenGenes
from xtrimogene.data.packed_cells import PackedCells
from xtrimogene.model.transformer_block import DecoderBlock
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene_kernels.linear_attention import reference
from xtrimogene_kernels.segments import Segments


class NaiveNetwork(XTrimoGene):
    """Made from a network whose weights it shares, but for the encoder's, which are copied."""

    def __init__(self, network: XTrimoGene) -> None:
        nn.Module.__init__(self)
        self.config = network.config
        for name, part in network.named_children():
            setattr(self, name, part)
        self.encoder = as_torch_encoder(network)

    def encode(self, packed: PackedCells) -> Tensor:
        x = self.value_embedding(packed.values) + self.gene_embedding(packed.gene_ids)
        lengths = list(packed.segments.lengths)
        padded = nn.utils.rnn.pad_sequence(list(torch.split(x, lengths)), batch_first=True)
        kept = torch.arange(padded.shape[1]) < torch.tensor(lengths)[:, None]
        return self.encoder(padded, src_key_padding_mask=None if bool(kept.all()) else ~kept)[kept]

    def blank_genes(self) -> None:
        """Nothing is made for more than one cell."""

    def decode(
        self,
        tokens: Tensor,
        packed: PackedCells,
        asked: Tensor,
        asked_segments: Segments,
        hidden: HiddenGenes | None = None,
        blank: None = None,
    ) -> Tensor:
        num_positions = self.config.num_genes + 2
        (x,) = self._decoder_input(tokens, packed, hidden)
        segments = Segments.from_lengths([num_positions] * packed.num_cells)
        for block in self.decoder.blocks:
            x = decoder_layer(block, x, segments)
        x = self.decoder.outer_norm(self.decoder.inner_norm(x))
        return x[asked_segments.segment_of_row() * num_positions + asked]


def decoder_layer(block: DecoderBlock, x: Tensor, segments: Segments) -> Tensor:
    attention, heads = block.attention, (block.attention.num_heads, -1)
    normed = block.attention_norm(x)
    rows = [
        F.linear(normed, part.weight, part.bias).unflatten(-1, heads)
        for part in (attention.query, attention.key, attention.value)
    ]
    attended = reference.linear_attention(*rows, attention.projection, segments, segments).flatten(1)
    x = x + F.linear(attended, attention.out.weight, attention.out.bias)
    hidden = F.gelu(F.linear(block.feed_forward_norm(x), block.expand.weight, block.expand.bias))
    return x + F.linear(hidden, block.contract.weight, block.contract.bias)
