"""The encoder is PyTorch's own transformer, cell by cell."""

import pytest
import torch
from torch import nn

from xtrimogene.config import EncoderConfig
from xtrimogene.model.encoder import Encoder
from xtrimogene.model.transformer_block import EncoderBlock
from xtrimogene_kernels.segments import Segments

NAMES = {
    "self_attn.in_proj_": "attention.qkv.",
    "self_attn.out_proj.": "attention.out.",
    "linear1.": "expand.",
    "linear2.": "contract.",
    "norm1.": "attention_norm.",
    "norm2.": "feed_forward_norm.",
}


@pytest.mark.parametrize("norm_first", [True, False])
def test_encoder_is_torchs_transformer_encoder(norm_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 64, 0.0, batch_first=True, norm_first=norm_first)
    theirs = nn.TransformerEncoder(layer, 3, nn.LayerNorm(16), enable_nested_tensor=False)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = Encoder(EncoderConfig(dim=16, num_layers=3, num_heads=4, norm_first=norm_first))
    state = {}
    for name, tensor in theirs.state_dict().items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        state[name.replace("layers.", "blocks.")] = tensor
    ours.load_state_dict(state)
    lengths = (5, 1, 9)
    x = torch.randn(sum(lengths), 16)
    with torch.inference_mode(False):
        packed = ours(x, Segments.from_lengths(lengths))
        alone = torch.cat([theirs(cell[None])[0] for cell in torch.split(x, lengths)])
    assert (packed - alone).abs().max() < 1e-5


def test_dropout_works_in_training_only() -> None:
    torch.manual_seed(0)
    block = EncoderBlock(EncoderConfig(dim=8, num_layers=1, num_heads=2, dropout=0.5))
    x, segments = torch.randn(6, 8), Segments.from_lengths([6])
    assert torch.equal(block.eval()(x, segments), block(x, segments))
    assert not torch.equal(block.train()(x, segments), block(x, segments))


def test_the_input_is_left_alone() -> None:
    block = EncoderBlock(EncoderConfig(dim=8, num_layers=1, num_heads=2))
    x = torch.randn(6, 8)
    kept = x.clone()
    block(x, Segments.from_lengths([6]))
    assert torch.equal(x, kept)
