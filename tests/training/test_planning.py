"""A plan: what fits, how long it takes, what it advises, and what it refuses."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from xtrimogene.config import ActivationCheckpointing, MaskingConfig, PretrainConfig
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import ConfigError
from xtrimogene.model.memory_parts import StepForm
from xtrimogene.training.data_summary import DataSummary
from xtrimogene.training.devices import DEVICES
from xtrimogene.training.model_size import PUBLISHED, paired_parameters
from xtrimogene.training.planning import TrainingPlan, plan, usable_bytes
from xtrimogene.training.workload import Workload, visible_and_hidden

ATLAS = DataSummary(num_cells=1_000_000, expressed_genes=1500.0)
RUN = PretrainConfig(files=("a",), output="b", preset="100M", batch_size=16)


def change(planned: TrainingPlan) -> str:
    """The advice, on one line."""
    return " ".join(str(planned).partition("change")[2].partition("model  ")[0].split())


def test_hours_are_operations_over_what_the_devices_do() -> None:
    planned = plan("scfoundation", ATLAS, num_devices=4, utilisation=0.25)
    assert (planned.num_steps, planned.run.batch_size) == (math.ceil(1e6 / 64 / 4), 64)
    assert planned.passes == pytest.approx(1.0, rel=1e-3)
    assert planned.chosen.flops / 1e6 == pytest.approx(2.9e12, rel=0.05)  # benchmarks/results/flops.json
    assert planned.chosen.hours == pytest.approx(planned.chosen.flops / (4 * 0.25 * 989e12) / 3600)
    alone = plan("scfoundation", ATLAS, utilisation=0.25)
    assert alone.chosen.hours == pytest.approx(4 * planned.chosen.hours, rel=1e-3)


def test_a_runs_own_settings_count() -> None:
    planned = plan(RUN, ATLAS)
    assert planned.num_steps == 10_000 and planned.passes == pytest.approx(0.16)
    assert plan(RUN, ATLAS, passes=3.0, batch_size=20).num_steps == 150_000
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
def test_one_cell_more_than_the_largest_batch_does_not_fit(preset: str, device: str) -> None:
    planned = plan(preset, ATLAS, device=device)
    work = Workload(run=planned.run, data=ATLAS, model=planned.model)
    on_gpu = planned.device.accelerator
    for mode in planned.modes:
        form = StepForm(checkpointing=mode.checkpointing, bfloat16=on_gpu, accelerator=on_gpu)
        usable = usable_bytes(planned.device)
        assert work.memory(mode.largest_batch, form).total <= usable < work.memory(mode.largest_batch + 1, form).total
        assert planned.fits == (planned.chosen.largest_batch >= 64)


@pytest.mark.parametrize(
    ("settings", "options", "advised"),
    [
        ({}, {"device": "H200"}, r"nothing; up to \d+ cells a device fit"),
        ({}, {"memory_gib": 42.0}, r'activation_checkpointing = "feed_forward" fits, for 9 % more operations; so does'),
        ({}, {"memory_gib": 16.0}, 'activation_checkpointing = "layer" fits, for 25 % more operations; so does'),
        ({"batch_size": 500}, {}, r'batch_size = \d+ with activation_checkpointing = "layer"; or a device with more'),
        ({}, {"memory_gib": 2.0}, "not one cell fits: a device with more memory, or a smaller preset"),
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
    run = PretrainConfig(files=("a",), output="b", preset=preset, batch_size=4096, activation_checkpointing=mode)
    lines = str(plan(run, replace(ATLAS, num_cells=100_000_000), device=device, num_devices=1024)).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line[:8].strip() for line in lines if line[:1].isalpha()][:3] == ["fits", "time", "change"]
    assert "nan" not in " ".join(lines) and "inf" not in " ".join(lines)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_devices": 0}, "num_devices=0 must be at least 1"),
        ({"utilisation": 0.0}, r"utilisation=0.0 must lie in \(0, 1\]"),
        ({"utilisation": 30.0}, "utilisation=30.0"),
        ({"passes": 0.0}, "passes=0.0 must be positive"),
        ({"passes": math.nan}, "passes=nan must be positive"),
        ({"memory_gib": math.inf}, "memory_gib=inf must be positive"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
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
    planned = plan(replace(RUN, files=(str(tmp_path / "a.h5ad"),)), num_devices=2)
    assert planned.data == DataSummary(num_cells=10, expressed_genes=280.0, num_studies=1)
    assert plan(replace(planned.run, min_genes=260)).data == DataSummary(num_cells=6, expressed_genes=300.0)


def test_genes_that_are_read_and_predicted() -> None:
    assert visible_and_hidden(MaskingConfig(), 20_000, 1_000.0) == (700, 300 + 570)
    assert visible_and_hidden(MaskingConfig(max_visible=192), 20_000, 1_000.0) == (192, 808 + 570)
    assert visible_and_hidden(MaskingConfig(nonzero_fraction=0.99), 20_000, 10.0)[0] == 1


def test_published_models_bracket_what_they_are() -> None:
    for model in PUBLISHED:
        small, large = paired_parameters(round(model.num_cells))
        assert small <= model.num_parameters * 1.001 and model.num_parameters <= large * 1.001
