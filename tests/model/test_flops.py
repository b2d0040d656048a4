"""The closed form of the operations against torch's own counter, at full size: on meta tensors nothing is computed."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from xtrimogene.config import ActivationCheckpointing, DecoderKind, ModelConfig, PretrainConfig
from xtrimogene.data.masking import HiddenGenes, MaskedCells
from xtrimogene.data.packed_cells import PackedCells
from xtrimogene.model import attention, value_embedding
from xtrimogene.model.checkpointing import set_activation_checkpointing
from xtrimogene.model.flops import cell_embedding_flops, dense_flops, gene_embedding_flops, training_step_flops
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import PRESETS, model_config
from xtrimogene.training import read_config
from xtrimogene.training.lightning_module import Pretraining
from xtrimogene.training.micro_batch import MicroBatch
from xtrimogene_kernels.linear_attention import reference as linear_reference
from xtrimogene_kernels.segments import Segments
from xtrimogene_kernels.value_embedding import reference as value_reference
from xtrimogene_kernels.varlen_attention import reference as varlen_reference

NUM_GENES = 19_264


@pytest.fixture(autouse=True)
def reference_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "varlen_attention", varlen_reference.varlen_attention)
    monkeypatch.setattr(attention, "linear_attention", linear_reference.linear_attention)
    monkeypatch.setattr(value_embedding, "value_embedding", value_reference.value_embedding)


def count(config: ModelConfig, run: Callable[[XTrimoGene], Tensor], *, backward: bool = False) -> int:
    with torch.device("meta"):
        network = XTrimoGene(config, seed=None)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        result = run(network)
        if backward:
            result.sum().backward()
    return counter.get_total_flops()


def cell(num_genes: int, num_cells: int = 1) -> PackedCells:
    """Cells of so many expressed genes each."""
    segments = Segments.from_lengths([num_genes] * num_cells, "meta")
    return PackedCells(
        gene_ids=torch.zeros(segments.num_rows, dtype=torch.int64, device="meta"),
        values=torch.zeros(segments.num_rows, device="meta"),
        segments=segments,
        totals=torch.ones(num_cells, device="meta"),
        measured=torch.ones(1, NUM_GENES, dtype=torch.bool, device="meta"),
        panel=torch.zeros(num_cells, dtype=torch.int64, device="meta"),
    )


def preset(name: str, kind: DecoderKind = "performer") -> ModelConfig:
    config = model_config(name, NUM_GENES)
    # "zero" looks at no value: meta tensors have none
    return replace(config, unmeasured="zero", decoder=replace(config.decoder, kind=kind))


@pytest.mark.parametrize("num_tokens", [500, 2002])
@pytest.mark.parametrize("name", PRESETS)
def test_cell_embedding(name: str, num_tokens: int) -> None:
    config = preset(name)
    counted = count(config, lambda network: network.embed_cells(cell(num_tokens)))
    assert cell_embedding_flops(config, num_tokens) == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("kind", get_args(DecoderKind))
@pytest.mark.parametrize("num_asked", [100, NUM_GENES])
@pytest.mark.parametrize("name", PRESETS)
def test_gene_embedding(name: str, num_asked: int, kind: DecoderKind) -> None:
    config, packed = preset(name, kind), cell(1502)

    def run(network: XTrimoGene) -> Tensor:
        asked = torch.zeros(num_asked, dtype=torch.int64, device="meta")
        return network.decode(network.encode(packed), packed, asked, Segments.from_lengths([num_asked], "meta"))

    assert gene_embedding_flops(config, 1502, num_asked) == pytest.approx(count(config, run), rel=0.01)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_gene_embedding_where_blank_genes_are_there_already(num_layers: int) -> None:
    config, packed, num_asked = preset("10M"), cell(1502), 3000
    config = replace(config, decoder=replace(config.decoder, num_layers=num_layers))
    with torch.device("meta"):
        blank = XTrimoGene(config, seed=None).blank_genes()

    def run(network: XTrimoGene) -> Tensor:
        asked = Segments.from_lengths([num_asked], "meta")
        ids = torch.zeros(num_asked, dtype=torch.int64, device="meta")
        return network.decode(network.encode(packed), packed, ids, asked, blank=blank)

    closed = gene_embedding_flops(config, 1502, num_asked, blank=True)
    assert closed == pytest.approx(count(config, run), rel=1e-3)
    assert closed < gene_embedding_flops(config, 1502, num_asked) * (0.8 if num_layers == 1 else 0.96)


@pytest.mark.parametrize("kind", get_args(DecoderKind))
@pytest.mark.parametrize("name", PRESETS)
def test_training_step(name: str, kind: DecoderKind) -> None:
    config = preset(name, kind)
    segments = Segments.from_lengths([983], "meta")
    hidden = HiddenGenes(torch.zeros(983, dtype=torch.int64, device="meta"), torch.zeros(983, device="meta"), segments)
    batch = MaskedCells(cell(1050), hidden, torch.zeros(983, device="meta"), cell(1500))
    counted = count(config, lambda network: network(batch), backward=True)
    assert training_step_flops(config, 1052, 983) == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("kind", get_args(DecoderKind))
@pytest.mark.parametrize("mode", ["feed_forward", "layer"])
def test_training_step_that_computes_some_of_it_again(mode: ActivationCheckpointing, kind: DecoderKind) -> None:
    config = preset("10M", kind)
    segments = Segments.from_lengths([983], "meta")
    hidden = HiddenGenes(torch.zeros(983, dtype=torch.int64, device="meta"), torch.zeros(983, device="meta"), segments)
    batch = MaskedCells(cell(1050), hidden, torch.zeros(983, device="meta"), cell(1500))

    def run(network: XTrimoGene) -> Tensor:
        set_activation_checkpointing(network, mode)
        return network(batch)

    closed = training_step_flops(config, 1052, 983, checkpointing=mode)
    assert closed == pytest.approx(count(config, run, backward=True), rel=0.01)


@pytest.mark.parametrize("kind", get_args(DecoderKind))
@pytest.mark.parametrize(("num_cells", "num_decoded"), [(1, 1), (8, 2), (8, 0)])
def test_training_step_with_a_latent_vector_and_a_share_of_decoded_cells(
    num_cells: int, num_decoded: int, kind: DecoderKind
) -> None:
    config = preset("demo", kind)
    hidden_segments = Segments.from_lengths([1866] * num_cells, "meta")
    num_hidden = hidden_segments.num_rows
    hidden = HiddenGenes(
        torch.zeros(num_hidden, dtype=torch.int64, device="meta"),
        torch.zeros(num_hidden, device="meta"),
        hidden_segments,
    )
    cells = MaskedCells(cell(192, num_cells), hidden, torch.zeros(num_hidden, device="meta"), cell(1500, num_cells))
    study = torch.zeros(num_cells, dtype=torch.int64, device="meta")
    batch = MicroBatch(cells, study, num_decoded=num_decoded, seed=0)
    settings = PretrainConfig(files=("a",), output="b", latent_weight=1.0, latent_kl_weight=1.0, decoder_share=0.2)

    def run(network: XTrimoGene) -> Tensor:
        training = Pretraining(network, settings, np.ones((1, NUM_GENES), dtype=bool)).to("meta")
        return torch.stack(list(training.errors(batch).values()))

    counted = count(config, run, backward=True) / num_cells
    closed = training_step_flops(config, 194, 1866, num_cells=num_cells, num_decoded=num_decoded, latent=True)
    assert closed == pytest.approx(counted, rel=0.01)


def test_the_demo_models_run_costs_less_than_ten_gigaflop_a_cell() -> None:
    run = read_config(Path(__file__).parents[2] / "data" / "demo_model.toml")
    num_visible = run.masking.max_visible
    assert num_visible is not None and run.latent_weight > 0
    num_hidden = 1500 - num_visible + round(run.masking.zero_fraction * (NUM_GENES - 1500))
    flops = training_step_flops(
        model_config(run.preset, NUM_GENES, run.model),
        num_visible + 2,
        num_hidden,
        num_cells=run.batch_size,
        num_decoded=math.ceil(run.decoder_share * run.batch_size),
        latent=True,
    )
    assert flops < 10e9


def test_figures_of_the_largest_model() -> None:
    config = model_config("scfoundation", NUM_GENES)
    embedding = [cell_embedding_flops(config, tokens) / 1e9 for tokens in (1000, 1502, 2002, 3002)]
    assert embedding == pytest.approx([207, 339, 488, 843], rel=0.01)
    assert gene_embedding_flops(config, 2002) / 1e9 == pytest.approx(1360, rel=0.01)
    assert dense_flops(config, "softmax") / 1e9 == pytest.approx(17_000, rel=0.01)
    assert dense_flops(config, "performer") / 1e9 == pytest.approx(3_650, rel=0.01)
