"""The closed form of a training step's memory against the tensors that are alive in one, on a network that is small."""

import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from lightning import Trainer
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from xtrimogene.config import (
    ActivationCheckpointing,
    DecoderConfig,
    DecoderKind,
    EncoderConfig,
    MaskingConfig,
    ModelConfig,
    PretrainConfig,
    SamplingConfig,
)
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.model.memory import training_memory
from xtrimogene.model.memory_parts import CHUNK_ROWS, StepForm, StepSize, parameter_count
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import PRESETS, model_config
from xtrimogene.training.lightning_module import Pretraining
from xtrimogene.training.micro_batch import micro_batch
from xtrimogene_kernels.linear_attention import streamed

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning's own
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]
MakeCounts = Callable[..., csr_matrix]
NUM_GENES, NUM_CELLS = 1000, 3
NETWORK = ModelConfig(
    num_genes=NUM_GENES,
    encoder=EncoderConfig(dim=64, num_layers=3, num_heads=2),
    decoder=DecoderConfig(dim=64, num_layers=2, num_heads=2, num_features=32),
    num_bins=8,
    latent_dim=16,
)
RUN = PretrainConfig(files=("a",), output="b", batch_size=NUM_CELLS, sampling=SamplingConfig(num_lanes=1))
DROPOUT = replace(NETWORK, encoder=replace(NETWORK.encoder, dropout=0.1, num_layers=8))
CROSS = replace(NETWORK, decoder=replace(NETWORK.decoder, kind="cross_attention", num_layers=4))
HIDING = MaskingConfig(nonzero_fraction=0.6, zero_fraction=0.3)
SIZE = StepSize(num_cells=8, num_decoded=8, num_visible=1000, num_hidden=900)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of what operators return, for as long as somebody holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage._cdata not in self.known:
                self.known[storage._cdata] = storage.nbytes()
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self.forget, storage._cdata)
        return result

    def forget(self, key: int) -> None:
        self.live -= self.known.pop(key)


def measured_and_closed(config: ModelConfig, run: PretrainConfig, counts: csr_matrix) -> tuple[int, int]:
    """Two steps, so that AdamW's moments are there."""
    bfloat16 = run.precision == "bfloat16"
    store = CellsInMemory(counts, np.ones((1, NUM_GENES), dtype=bool), np.zeros(NUM_CELLS, dtype=np.int64))
    lanes = np.split(np.arange(NUM_CELLS), run.sampling.num_lanes)
    step = [micro_batch(counts[rows], rows, store, run, step=0, lane=lane) for lane, rows in enumerate(lanes)]
    trainer = Trainer(
        accelerator="cpu",
        precision="bf16-mixed" if bfloat16 else "32-true",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with LiveBytes() as memory:
        trainer.fit(Pretraining(XTrimoGene(config), run, store.measured), DataLoader([step, step], batch_size=None))
    cells = len(lanes[0]) if run.micro_batch_size is None else run.micro_batch_size
    size = StepSize(
        num_cells=cells,
        num_decoded=min(cells, math.ceil(len(lanes[0]) * run.decoder_share)),
        num_visible=sum(part.cells.visible.segments.num_rows for part in step) // NUM_CELLS + 2,
        num_hidden=sum(part.cells.hidden.segments.num_rows for part in step) // NUM_CELLS,
        latent=run.latent_weight > 0,
        num_passes=NUM_CELLS // cells,
    )
    form = StepForm(checkpointing=run.activation_checkpointing, bfloat16=bfloat16)
    return memory.peak, training_memory(config, size, form).total


@pytest.mark.parametrize("mode", get_args(ActivationCheckpointing))
@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (NETWORK, {}),
        (NETWORK, {"decoder_share": 0.5, "latent_weight": 1.0}),
        (DROPOUT, {"decoder_share": 0.1, "latent_weight": 1.0}),
        (NETWORK, {"sampling": SamplingConfig(num_lanes=3)}),
        (NETWORK, {"micro_batch_size": 1, "latent_weight": 1.0}),
        (CROSS, {"masking": HIDING}),
        (CROSS, {"masking": HIDING, "latent_weight": 1.0, "sampling": SamplingConfig(num_lanes=3)}),
    ],
    ids=["decoder", "both", "encoder", "lanes", "cut", "cross", "cross lanes"],
)
def test_closed_form_is_what_a_step_takes(
    config: ModelConfig, settings: Mapping[str, Any], mode: ActivationCheckpointing, make_counts: MakeCounts
) -> None:
    run = replace(RUN, activation_checkpointing=mode, **settings)
    measured, closed = measured_and_closed(config, run, make_counts(NUM_CELLS, NUM_GENES, 0.2))
    assert closed == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("config", [NETWORK, CROSS], ids=["performer", "cross"])
@pytest.mark.parametrize("mode", get_args(ActivationCheckpointing))
def test_closed_form_in_bfloat16_where_norms_are_cast_as_on_cuda(
    mode: ActivationCheckpointing, config: ModelConfig, make_counts: MakeCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer_norm = functional.layer_norm

    def cast_to_float32(x: Tensor, *arguments: Any) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return layer_norm(x.float(), *arguments)

    monkeypatch.setattr(functional, "layer_norm", cast_to_float32)
    run = replace(RUN, activation_checkpointing=mode, precision="bfloat16", masking=HIDING)
    measured, closed = measured_and_closed(config, run, make_counts(NUM_CELLS, NUM_GENES, 0.2))
    assert closed == pytest.approx(measured, rel=0.1)


def test_chunks_are_the_kernels() -> None:
    assert {False: streamed.CPU_CHUNK_ROWS, True: streamed.ACCELERATOR_CHUNK_ROWS} == CHUNK_ROWS


@pytest.mark.parametrize("kind", get_args(DecoderKind))
@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_counted(name: str, kind: DecoderKind) -> None:
    config = model_config(name, 19_264, {"decoder": {"kind": kind}})
    with torch.device("meta"):
        network = XTrimoGene(config, seed=None)
    assert parameter_count(config) == sum(parameter.numel() for parameter in network.parameters())


def test_what_makes_a_step_smaller() -> None:
    def total(size: StepSize = SIZE, **form: Any) -> int:
        return training_memory(model_config("100M", 19_264), size, StepForm(**form)).total

    modes = [total(checkpointing=mode) for mode in get_args(ActivationCheckpointing)]
    assert modes == sorted(modes, reverse=True)
    assert 0.5 < total(bfloat16=True, accelerator=True) / total(accelerator=True) < 0.8
    assert total(replace(SIZE, num_cells=7)) < total(replace(SIZE, num_decoded=7)) + total() // 8 < total() * 9 // 8
    assert total(replace(SIZE, num_visible=500)) < total()


def test_a_second_pass_finds_the_gradients_of_the_first() -> None:
    config = model_config("3M", 19_264)
    first, later = (training_memory(config, replace(SIZE, num_passes=passes), StepForm()) for passes in (1, 2))
    assert later.gradients == 4 * (parameter_count(config) + 19_264) > first.gradients
    assert later.batch > 1.9 * first.batch and later.activations == first.activations


def test_gradients_have_copies_where_devices_share_them() -> None:
    config = model_config("3M", 19_264)
    alone, together = (training_memory(config, SIZE, StepForm(data_parallel=shared)) for shared in (False, True))
    trained = parameter_count(config) + 19_264  # a study's offsets
    assert together.total - alone.total == together.gradients - alone.gradients == 4 * trained
    assert alone.optimizer == 8 * trained


def test_a_tiny_batch_is_fullest_when_weights_are_updated() -> None:
    size = StepSize(num_cells=1, num_decoded=0, num_visible=10, num_hidden=0, latent=True, decoder=False)
    memory = training_memory(model_config("demo", 19_264), size, StepForm())
    assert memory.activations == 0 and memory.gradients == memory.optimizer // 2
