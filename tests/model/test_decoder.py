"""The decoder answers at the rows asked for, with what it would say there if asked for all."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from xtrimogene.config import DecoderConfig
from xtrimogene.model import rowwise
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


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_rows_in_shares_are_the_layers(monkeypatch: pytest.MonkeyPatch, given: bool, num_threads: int) -> None:
    decoder = make_decoder(DecoderConfig(dim=12, num_layers=3, num_heads=3, num_features=16))
    lengths, rows, asked = [7, 1, 9], torch.tensor([6, 2, 0, 14, 9]), Segments.from_lengths([3, 0, 2])
    segments, x = Segments.from_lengths(lengths), torch.randn(17, 12)
    read = decoder.read(x) if given else ()
    expected = decoder(x, segments, rows, asked, read)  # with gradients: all rows at once
    monkeypatch.setattr(rowwise, "NUMBERS_A_THREAD", 24)
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)  # shares of 2 and 4 rows
    seen: list[int] = []
    for block in decoder.blocks:
        block.expand.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    with torch.no_grad():
        assert (decoder(x, segments, rows, asked, read) - expected).abs().max() < 1e-6
    assert max(seen) == 2 * num_threads


class LargeTensors(TorchDispatchMode):
    """Keeps the storages of at least so many numbers that any operation returned."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers, self.found = numbers, list[torch.UntypedStorage]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for out in result if isinstance(result, tuple | list) else (result,):
            if isinstance(out, torch.Tensor) and out.untyped_storage().nbytes() >= out.element_size() * self.numbers:
                self.found.append(out.untyped_storage())  # kept, so that no other takes its place
        return result


def test_without_gradients_a_layer_makes_no_tensor_of_all_rows_but_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    block = make_decoder(DecoderConfig(dim=12, num_layers=1, num_heads=3, num_features=16)).blocks[0]
    segments, x = Segments.from_lengths([400, 700]), torch.randn(1100, 12)
    monkeypatch.setattr(rowwise, "NUMBERS_A_THREAD", 12 * 20)
    made = []
    for enabled in (False, True):
        with torch.set_grad_enabled(enabled), LargeTensors(x.numel()) as large:
            block(x, segments)
        made.append(len({storage.data_ptr() for storage in large.found} - {x.data_ptr()}))
    assert made[0] == 1 and made[1] > 6


def test_the_output_passes_two_norms() -> None:
    decoder = make_decoder()
    segments = Segments.from_lengths([5])
    with torch.no_grad():
        decoder.inner_norm.weight.fill_(3.0)
        decoder.outer_norm.bias.fill_(2.0)
    out = decoder(torch.randn(5, 12), segments, torch.arange(5), segments)
    torch.testing.assert_close(out.mean(1), torch.full((5,), 2.0), atol=1e-5, rtol=0)  # the last norm decides
    torch.testing.assert_close(out.var(1, unbiased=False), torch.ones(5), atol=1e-3, rtol=0)
