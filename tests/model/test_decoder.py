"""The decoder answers at the rows asked for, with what it would say there if asked for all."""

import pytest
import torch

from xtrimogene.config import DecoderConfig
from xtrimogene.model.decoder import Decoder
from xtrimogene.model.initialization import initialize
from xtrimogene_kernels.segments import Segments

CONFIG = DecoderConfig(dim=12, num_layers=2, num_heads=3, num_features=256)


@torch.no_grad()
def make_decoder(config: DecoderConfig = CONFIG) -> Decoder:
    decoder = Decoder(20, config)
    initialize(decoder, 0)
    return decoder


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_some_rows_are_rows_of_all(num_layers: int) -> None:
    decoder = make_decoder(DecoderConfig(dim=12, num_layers=num_layers, num_heads=3, num_features=16))
    segments = Segments.from_lengths([7, 4])
    x = torch.randn(11, 12, generator=torch.Generator().manual_seed(0))
    everything = decoder(x, segments, torch.arange(11), segments)
    rows = torch.tensor([6, 0, 9])
    assert (decoder(x, segments, rows, Segments.from_lengths([2, 1])) - everything[rows]).abs().max() < 1e-6


@pytest.mark.parametrize("num_layers", [1, 3])
def test_what_the_first_layer_reads_may_be_given(num_layers: int) -> None:
    decoder = make_decoder(DecoderConfig(dim=12, num_layers=num_layers, num_heads=3, num_features=16))
    segments, asked = Segments.from_lengths([7, 4]), Segments.from_lengths([2, 1])
    x, rows = torch.randn(11, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([6, 0, 9])
    expected, read = decoder(x, segments, rows, asked), decoder.read(x)
    assert (decoder(x, segments, rows, asked, read) - expected).abs().max() < 1e-6
    for part in range(3):  # each is read, none made again
        others = [one.roll(1, 0) if part == number else one for number, one in enumerate(read)]
        assert (decoder(x, segments, rows, asked, others) - expected).abs().max() > 1e-3


def test_the_output_passes_two_norms() -> None:
    decoder = make_decoder()
    segments = Segments.from_lengths([5])
    with torch.no_grad():
        decoder.inner_norm.weight.fill_(3.0)
        decoder.outer_norm.bias.fill_(2.0)
    out = decoder(torch.randn(5, 12), segments, torch.arange(5), segments)
    torch.testing.assert_close(out.mean(1), torch.full((5,), 2.0), atol=1e-5, rtol=0)  # the last norm decides
    torch.testing.assert_close(out.var(1, unbiased=False), torch.ones(5), atol=1e-3, rtol=0)
