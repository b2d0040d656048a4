"""A plan: what fits, how long it takes, what it advises, and what it refuses."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from xtrimogene.config import ActivationCheckpointing, MaskingConfig, PretrainConfig, SamplingConfig
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import ConfigError
from xtrimogene.model.flops import training_step_flops
from xtrimogene.model.memory_parts import StepForm
from xtrimogene.presets import model_config
from xtrimogene.training.data_summary import DataSummary
from xtrimogene.training.devices import DEVICES
from xtrimogene.training.model_size import PUBLISHED, paired_parameters
from xtrimogene.training.planning import TrainingPlan, plan, usable_bytes
from xtrimogene.training.workload import Workload, visible_and_hidden

ATLAS = DataSummary(num_cells=1_000_000, expressed_genes=1500.0)
PAPER = {"decoder": {"kind": "performer"}}
RUN = PretrainConfig(
    files=("a",), output="b", preset="100M", model=PAPER, batch_size=16, sampling=SamplingConfig(num_lanes=1)
)


def change(planned: TrainingPlan) -> str:
    """The advice, on one line."""
    return " ".join(str(planned).partition("change")[2].partition("model  ")[0].split())


def test_hours_are_operations_over_what_the_devices_do() -> None:
    planned = plan("scfoundation", ATLAS, num_devices=4, utilisation=0.25)
    assert (planned.run.num_steps, planned.run.batch_size, planned.epochs) == (1e6 / 64, 64, 1.0)
    assert planned.chosen.flops / 1e6 == pytest.approx(2.9e12, rel=0.05)  # benchmarks/results/flops.json
    assert planned.chosen.hours == pytest.approx(planned.chosen.flops / (4 * 0.25 * 989e12) / 3600)
    alone = plan("scfoundation", ATLAS, utilisation=0.25)
    assert alone.chosen.flops == planned.chosen.flops
    assert alone.chosen.hours == pytest.approx(4 * planned.chosen.hours)


def test_a_runs_own_settings_count() -> None:
    planned = plan(RUN, ATLAS)
    assert planned.run.num_steps == 10_000 and planned.epochs == pytest.approx(0.16)
    assert plan(RUN, ATLAS, epochs=3.0, batch_size=20).run.num_steps == 150_000
    fewer = replace(RUN, decoder_share=0.25, masking=MaskingConfig(max_visible=300))
    assert plan(fewer, ATLAS).chosen.flops < 0.4 * planned.chosen.flops
    assert plan(fewer, ATLAS).chosen.memory.total < 0.4 * planned.chosen.memory.total
    layer = plan(replace(RUN, activation_checkpointing="layer"), ATLAS)
    assert layer.chosen == layer.modes[2] == planned.modes[2] and layer.chosen.flops > planned.chosen.flops


def test_precision_follows_the_device_unless_it_is_told() -> None:
    on_cpu = plan(RUN, ATLAS, device="cpu-core", utilisation=1.0).chosen
    assert on_cpu.hours == pytest.approx(on_cpu.flops / 0.15e12 / 3600)
    on_gpu = plan(replace(RUN, precision="float32"), ATLAS, device="a100-80", utilisation=1.0).chosen
    assert on_gpu.hours == pytest.approx(on_gpu.flops / 19.5e12 / 3600)
    assert on_gpu.memory.activations > 1.5 * plan(RUN, ATLAS, device="a100-80").chosen.memory.activations


@pytest.mark.parametrize("device", ["L40S", "CPU-core"])
@pytest.mark.parametrize("preset", ["demo", "10M", "100M"])
def test_one_cell_more_than_the_largest_micro_batch_does_not_fit(preset: str, device: str) -> None:
    planned = plan(preset, ATLAS, device=device)
    work = Workload(run=planned.run, data=ATLAS, model=planned.model)
    on_gpu = planned.device.accelerator
    for mode in planned.modes:
        form = StepForm(checkpointing=mode.checkpointing, bfloat16=on_gpu, accelerator=on_gpu)
        usable = usable_bytes(planned.device)
        largest = mode.largest_micro_batch
        assert work.memory(largest, form).total <= usable < work.memory(largest + 1, form).total
        assert (mode in planned.fitting) == (largest >= 8)


@pytest.mark.parametrize(
    ("settings", "options", "advised"),
    [
        ({}, {}, r"nothing; up to 2\d cells a pass fit$"),
        ({}, {"num_lanes": 2}, r"nothing; up to 2\d cells a pass fit; sampling.num_lanes = 1 would make them larger$"),
        ({}, {"num_lanes": 2, "num_devices": 2}, r"nothing; up to 2\d cells a pass fit$"),
        ({"micro_batch_size": 5}, {}, r"nothing; up to 2\d cells a pass fit; micro_batch_size cuts them to 5$"),
        ({"micro_batch_tokens": 4000}, {}, r"nothing; .* fit; micro_batch_tokens cuts them to 3$"),
        ({}, {"memory_gib": 42.0}, r'micro_batch_size = 1\d: .*; or .* = "feed_forward", for 9 % more operations$'),
        ({}, {"memory_gib": 16.0}, r'micro_batch_size = 4: .*; or .* = "layer", for 25 % more operations$'),
        ({"batch_size": 500}, {}, r"micro_batch_size = 2\d: the same steps in smaller passes$"),
        ({}, {"memory_gib": 4.5}, r'.* = "feed_forward" and micro_batch_size = 1, for 9 % more operations$'),
        ({}, {"memory_gib": 2.0}, "not one cell fits: a device with more memory, or a smaller preset$"),
        ({"activation_checkpointing": "layer"}, {}, r'activation_checkpointing = "none" fits too and saves 20 % of'),
    ],
)
def test_advice_is_what_costs_least(settings: Mapping[str, Any], options: Mapping[str, Any], advised: str) -> None:
    planned = plan(replace(RUN, **settings), ATLAS, **options)

    assert re.match(advised, change(planned)), change(planned)
    assert planned.fits == ("saves" in advised or "nothing" in advised) == str(planned).startswith("fits    yes")


@pytest.mark.parametrize("mode", get_args(ActivationCheckpointing))
@pytest.mark.parametrize("preset", ["demo", "scfoundation"])
@pytest.mark.parametrize("device", DEVICES)
def test_text_is_narrow_and_answers_first(preset: str, device: str, mode: ActivationCheckpointing) -> None:
    run = PretrainConfig(files=("a",), output="b", preset=preset, batch_size=16_384, activation_checkpointing=mode)
    atlas = replace(ATLAS, num_cells=100_000_000)
    lines = str(plan(run, atlas, device=device, num_lanes=4096, num_devices=1024)).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line[:8].strip() for line in lines if line[:1].isalpha()][:3] == ["fits", "time", "change"]
    assert "nan" not in " ".join(lines) and "inf" not in " ".join(lines)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_devices": 0}, "num_devices=0 must be at least 1"),
        ({"utilisation": 0.0}, r"utilisation=0.0 must lie in \(0, 1\]"),
        ({"utilisation": 30.0}, "utilisation=30.0"),
        ({"num_devices": 3, "num_lanes": 8}, "3 devices cannot share sampling.num_lanes=8 lanes evenly"),
        ({"num_lanes": 32}, "batch_size=16 is less than sampling.num_lanes=32"),
        ({"epochs": 0.0}, "epochs=0.0 must be positive"),
        ({"epochs": math.nan}, "epochs=nan must be positive"),
        ({"memory_gib": math.inf}, "memory_gib=inf must be positive"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"num_lanes": 0}, "num_lanes=0 must be at least 1"),
        ({"device": "TPU"}, "no device 'TPU'; choose the nearest of A100-40, "),
    ],
)
def test_what_cannot_be_is_refused(options: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(RUN, ATLAS, **options)


def test_data_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="says nothing of the cells"):
        plan("3M")
    with pytest.raises(ConfigError, match="expressed_genes=30,000 is more than the 20,092 genes"):
        plan("3M", replace(ATLAS, expressed_genes=3e4))
    with pytest.raises(ConfigError, match="expressed_genes=nan must be at least 1"):
        replace(ATLAS, expressed_genes=math.nan)
    with pytest.raises(ConfigError, match="no preset '5M'"):
        plan("5M", ATLAS)
    with pytest.raises(ConfigError, match="needs a preset with latent_dim"):
        plan(replace(RUN, latent_weight=1.0), ATLAS)


def test_without_data_the_runs_files_are_looked_at(tmp_path: Path) -> None:
    genes = GeneVocabulary.human().symbols[:300]
    counts = np.ones((10, 300), dtype=np.float32)
    counts[:4, 250:] = 0
    cells = anndata.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=list(genes)))
    cells.write_h5ad(tmp_path / "a.h5ad")
    run = replace(RUN, files=(str(tmp_path / "a.h5ad"),))
    planned = plan(run, num_lanes=2, num_devices=2)
    assert planned.data == DataSummary(num_cells=10, expressed_genes=280.0, num_studies=1)
    assert plan(replace(run, min_genes=260)).data == DataSummary(num_cells=6, expressed_genes=300.0)
    assert plan(replace(run, weights={run.files[0]: 2.0})).data.num_cells == 20
    with pytest.raises(ConfigError, match="An epoch has 10 cells and each of sampling.num_lanes=16 lanes needs one"):
        plan(run, num_lanes=16)


def work(num_cells: int, **settings: Any) -> Workload:
    data, model = replace(ATLAS, num_cells=num_cells), model_config(RUN.preset, 20_092)
    return Workload(run=replace(RUN, **settings), data=data, model=model)


@pytest.mark.parametrize("num_cells", [1600, 1603, 1607, 1617, 1631, 33])
def test_a_lane_gives_a_step_at_most_what_the_sampler_says(num_cells: int) -> None:
    some = work(num_cells, sampling=SamplingConfig(num_lanes=3, block_size=4, buffer_size=24))
    sampler = some.sampler
    edges = [sampler.places(sampler.lane(0, lane), i) for lane in range(3) for i in range(sampler.steps_per_epoch)]
    assert some.lane_cells == some.micro_batch == max(end - start for start, end in edges)
    epoch = replace(some, run=replace(some.run, num_steps=sampler.steps_per_epoch))
    assert sum(end - start for start, end in edges) == epoch.cells_seen == num_cells


def test_a_pass_is_a_lanes_cells_or_fewer() -> None:
    lanes = SamplingConfig(num_lanes=2)
    assert work(1600, sampling=lanes).micro_batch == 8
    assert work(1600, sampling=lanes, micro_batch_size=3).micro_batch == 3
    assert work(1600, sampling=lanes, micro_batch_size=30).micro_batch == 8
    assert work(1600, sampling=lanes, micro_batch_tokens=2 * 1050).micro_batch == 2
    assert work(1600, sampling=lanes, micro_batch_tokens=7).micro_batch == 1
    size = work(1600, sampling=lanes, decoder_share=0.3).step(2)
    assert (size.num_cells, size.num_decoded, size.num_passes) == (2, 2, 8)
    assert work(1600, sampling=lanes, decoder_share=0.3).step(8).num_decoded == 3
    assert replace(work(1600, sampling=lanes), num_devices=2).step(8).num_passes == 1


def test_operations_are_those_of_the_passes() -> None:
    whole, cut = work(160_000, decoder_share=0.25), work(160_000, decoder_share=0.25, micro_batch_size=5)
    per_cell = partial(training_step_flops, whole.model, 1052, round(450 + 0.03 * (20_092 - 1500)))
    assert whole.flops("none") == 160_000 * per_cell(num_cells=16, num_decoded=4)
    passes = 5 * per_cell(num_cells=5, num_decoded=4) + 2 * 5 * per_cell(num_cells=5, num_decoded=0)
    assert cut.flops("none") == 10_000 * (passes + per_cell(num_cells=1, num_decoded=0))


def test_genes_that_are_read_and_predicted() -> None:
    assert visible_and_hidden(MaskingConfig(), 20_000, 1_000.0) == (700, 300 + 570)
    assert visible_and_hidden(MaskingConfig(max_visible=192), 20_000, 1_000.0) == (192, 808 + 570)
    assert visible_and_hidden(MaskingConfig(nonzero_fraction=0.99), 20_000, 10.0)[0] == 1


def test_published_models_bracket_what_they_are() -> None:
    for model in PUBLISHED:
        small, large = paired_parameters(round(model.num_cells))
        assert small <= model.num_parameters * 1.001 and model.num_parameters <= large * 1.001
