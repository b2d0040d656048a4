"""A run from a config to a checkpoint: interrupted or not, the weights are the same."""

import csv
import json
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from scipy import sparse

from xtrimogene.checkpoint import load
from xtrimogene.config import ModelConfig, OptimizerConfig, PretrainConfig, StoreConfig
from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.store_builder import build_store
from xtrimogene.errors import CheckpointError, ConfigError, FieldError, FileFormatError
from xtrimogene.inference import Inference
from xtrimogene.presets import PRESETS
from xtrimogene.training import step_progress
from xtrimogene.training.lightning_module import Pretraining
from xtrimogene.training.micro_batch import MicroBatch
from xtrimogene.training.run import pretrain, read_config
from xtrimogene.training.run_checkpoints import checkpoints


@pytest.fixture(autouse=True)
def small(
    monkeypatch: pytest.MonkeyPatch, tiny_genes: GeneVocabulary, tiny_config: Callable[[int], ModelConfig]
) -> None:
    """A tiny model over few genes: a run takes a second."""
    monkeypatch.setitem(PRESETS, "tiny", tiny_config)
    monkeypatch.setattr(GeneVocabulary, "human", classmethod(lambda cls: tiny_genes))


def interrupt_at(step: int, config: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until this step, then as if someone pressed Ctrl-C."""
    begin = Pretraining.on_train_batch_start

    def stop(self: Pretraining, batch: object, batch_index: int) -> None:
        if self.global_step == step:
            raise KeyboardInterrupt
        begin(self, batch, batch_index)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "on_train_batch_start", stop)
        heard = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config)
        assert signal.getsignal(signal.SIGINT) is heard, "a second Ctrl-C is heard too"


def test_what_is_written_loads_and_embeds(
    config: PretrainConfig, tiny_genes: GeneVocabulary, tiny_config: Callable[[int], ModelConfig]
) -> None:
    trained = pretrain(config)
    output = Path(config.output)
    model = load(output / "model")
    assert model.genes == tiny_genes and model.config == tiny_config(250)
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, trained.network.state_dict()[name].half().float()), name
    embedding = Inference(model, device="cpu").cell_embeddings(sparse.csr_matrix(np.ones((2, 250), dtype=np.float32)))
    assert np.isfinite(embedding).all()
    head = model.network.latent_head
    assert head is not None and float(head.depth_direction.norm()) == pytest.approx(1.0, abs=1e-3)
    assert min(model.card["latent_variance_by_thinning"].values()) > 0

    assert model.card["trained_on"] == [
        {"file": "a.h5ad", "cells": 12, "cells_left_out": 0, "sha256": file_sha256(Path(config.files[0]))},
        {"file": "b.h5ad", "cells": 8, "cells_left_out": 0, "sha256": file_sha256(Path(config.files[1]))},
    ]
    assert model.card["cells"] == 20 and model.card["cells_seen"] == 48 and model.card["seed"] == 0
    assert set(model.card["versions"]) == {"python", "torch", "xtrimogene"} and model.card["licence"] == "not stated"
    assert str(output.parent) not in json.dumps(dict(model.card)), "a card names no folder of its maker"
    with (output / "log" / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 8, 10, 12]
    assert set(rows[0]) == {"step", "decoder_loss", "latent_loss", "latent_kl_loss", "learning_rate", "gradient_norm"}
    assert float(rows[0]["learning_rate"]) == pytest.approx(1e-2) and float(rows[5]["learning_rate"]) < 1e-3


def test_cells_that_are_not_trained_on_are_validated_on(config: PretrainConfig) -> None:
    pretrain(replace(config, files=config.files[:1], validation_files=config.files[1:], validate_every=5))
    with (Path(config.output) / "log" / "validation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == [0, 5, 10, 12]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    assert float(rows[-1]["decoder_zero"]) < 0.95 * float(rows[0]["decoder_zero"]), "by the weights that were trained"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_goes_forward_in_its_precision_and_backward_without_autocast(
    precision: str, config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, backward = [], []
    errors, manual_backward = Pretraining.errors, Pretraining.manual_backward

    def record_errors(self: Pretraining, batch: MicroBatch) -> dict[str, torch.Tensor]:
        forward.append(torch.is_autocast_enabled("cpu"))
        return errors(self, batch)

    def record_backward(self: Pretraining, loss: torch.Tensor) -> None:
        backward.append(torch.is_autocast_enabled("cpu"))
        manual_backward(self, loss)

    monkeypatch.setattr(Pretraining, "errors", record_errors)
    monkeypatch.setattr(Pretraining, "manual_backward", record_backward)
    pretrain(replace(config, precision=precision, num_steps=2))
    assert set(forward) == {precision == "bfloat16"} and set(backward) == {False}


def test_a_built_store_is_trained_on_and_its_card_names_the_files(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(Path(config.output).with_name("cells.zarr"))
    build_store(StoreConfig(files=config.files, output=store, min_genes=50), progress=False)
    model = pretrain(replace(config, files=(store,)))
    assert [source["file"] for source in model.card["trained_on"]] == ["a.h5ad", "b.h5ad"]
    assert model.card["cells"] == 20
    known = load(Path(config.output) / "model").cell_hashes
    assert known is not None and len(known) == 20
    from_files = pretrain(replace(config, output=config.output + "2")).cell_hashes
    np.testing.assert_array_equal(known, from_files)


def test_the_weights_of_files_are_heeded(config: PretrainConfig) -> None:
    card = pretrain(replace(config, weights={config.files[0]: 2.0}, num_steps=8)).card
    assert card["cells_seen"] == 32  # an epoch: the 12 cells of one file twice and the 8 of the other


def test_a_run_goes_on_with_the_same_cells_only(config: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(4, config, monkeypatch)
    cells = anndata.read_h5ad(config.files[0])
    cells[:10].copy().write_h5ad(config.files[0])
    with pytest.raises(ConfigError, match="other cells than when this run began"):
        pretrain(config)


@pytest.mark.parametrize(("devices", "message"), [(3, "3 devices cannot share sampling.num_lanes=2 lanes evenly")])
def test_devices_that_cannot_share_the_lanes_are_refused(config: PretrainConfig, devices: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrain(config, num_devices=devices)
    with pytest.raises(ConfigError, match="3 worker processes cannot share 2 lanes"):
        pretrain(config, num_workers=3)
    for name, number, least in (("devices", 0, 1), ("devices", -1, 1), ("nodes", 0, 1), ("workers", -1, 0)):
        with pytest.raises(ConfigError, match=f"{name}={number} must be at least {least}"):
            pretrain(config, **{f"num_{name}": number})
    assert not Path(config.output).exists(), "nothing is claimed"


def test_cells_left_in_their_files_train_the_same_model(config: PretrainConfig) -> None:
    memory = pretrain(config).network.state_dict()
    disk = pretrain(replace(config, in_memory=False, output=config.output + "2")).network.state_dict()
    assert all(torch.equal(memory[name], disk[name]) for name in memory)


def test_a_latent_vector_that_is_not_trained_has_no_direction_of_read_depth(config: PretrainConfig) -> None:
    trained = pretrain(replace(config, latent_weight=0.0, latent_kl_weight=0.0))
    head = trained.network.latent_head
    assert head is not None and not head.depth_direction.any()
    assert "latent_variance_by_thinning" not in trained.card


def test_a_model_that_embeds_by_its_latent_vector_must_train_it(config: PretrainConfig) -> None:
    wrong = replace(config, model={"pool": "latent"}, latent_weight=0.0, latent_kl_weight=0.0)
    with pytest.raises(ConfigError, match="latent_weight = 0 trains no latent vector.*set latent_weight = 1"):
        pretrain(wrong)
    assert not Path(config.output).exists()


def test_a_run_that_only_lacks_its_model_keeps_its_losses(config: PretrainConfig) -> None:
    losses = pretrain(config).card["final_losses"]
    shutil.rmtree(Path(config.output) / "model")
    assert pretrain(config).card["final_losses"] == pytest.approx(losses) and losses


def test_a_run_killed_before_its_first_checkpoint_validates_once(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, files=config.files[:1], validation_files=config.files[1:], validate_every=5)
    interrupt_at(2, config, monkeypatch)
    pretrain(config)
    with (Path(config.output) / "log" / "validation.csv").open() as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == [0, 5, 10, 12]


def test_the_batches_of_a_validation_file_are_told_apart(config: PretrainConfig) -> None:
    joined = anndata.read_h5ad(config.files[1])
    joined.obs["batch"] = ["a", "b"] * 4
    joined.write_h5ad(config.files[1])
    run = replace(
        config, files=config.files[:1], validation_files=config.files[1:], joined_by={config.files[1]: "batch"}
    )
    pretrain(run)
    with pytest.raises(FieldError, match="no obs column 'lane'"):
        pretrain(replace(run, output=config.output + "2", joined_by={config.files[1]: "lane"}))


def test_a_run_that_diverges_stops_and_leaves_no_model(config: PretrainConfig) -> None:
    wild = replace(config, optimizer=OptimizerConfig(peak_lr=1e30, warmup_steps=0))
    with pytest.raises(ConfigError, match="The run has diverged: .* after step .*smaller optimizer.peak_lr"):
        pretrain(wild)
    assert not (Path(config.output) / "model").exists()


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        del content[len(content) // 2 :]
    elif how == "emptied":
        content.clear()
    else:
        with zipfile.ZipFile(path) as entries:
            weights = entries.read(max(entries.infolist(), key=lambda entry: entry.file_size))
        content[content.index(weights) + len(weights) // 2] ^= 1  # one bit
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "emptied", "flipped"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    how: str, config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrain(replace(config, output=config.output + "-whole"))
    interrupt_at(7, config, monkeypatch)
    folder = Path(config.output) / "checkpoints"
    assert [path.name for path in checkpoints(folder)] == ["step-00000006.ckpt", "step-00000003.ckpt"]
    damage(folder / "step-00000006.ckpt", how)
    with pytest.warns(UserWarning, match="step-00000006.ckpt of .* is damaged; going on from step-00000003.ckpt"):
        resumed = pretrain(config)
    for name, tensor in resumed.network.state_dict().items():
        assert torch.equal(tensor, whole.network.state_dict()[name]), name


def test_a_run_whose_checkpoints_are_all_damaged_is_told(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(7, config, monkeypatch)
    for path in checkpoints(Path(config.output) / "checkpoints"):
        damage(path, "cut")
    with pytest.raises(CheckpointError, match="are damaged, the run cannot go on.*remove them to begin again"):
        pretrain(config)


def test_the_bar_counts_the_steps_of_earlier_sittings(config: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    advanced: list[list[int]] = []

    @contextmanager
    def bar(title: str, total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
        advanced.append([])
        yield advanced[-1].append
        advanced[-1].append(-1)  # closed

    monkeypatch.setattr(step_progress, "progress_bar", bar)
    interrupt_at(4, config, monkeypatch)
    pretrain(config)
    assert advanced == [[0, 1, 1, 1, 1, -1], [3, *[1] * 9, -1]]


@pytest.mark.parametrize("step", [4, 11])
def test_a_run_that_was_interrupted_ends_with_the_same_weights(
    step: int, config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrain(replace(config, output=config.output + "-whole"))
    interrupt_at(step, config, monkeypatch)
    assert not (Path(config.output) / "model").exists()
    seen: list[int] = []
    step_of = Pretraining.training_step

    def record(self: Pretraining, batch: object, batch_index: int) -> torch.Tensor:
        seen.append(self.global_step)
        return step_of(self, batch, batch_index)  # type: ignore[arg-type]

    monkeypatch.setattr(Pretraining, "training_step", record)
    resumed = pretrain(config)
    assert seen == list(range(step // 3 * 3, 12)), "it went on from its last checkpoint"
    for name, tensor in resumed.network.state_dict().items():
        assert torch.equal(tensor, whole.network.state_dict()[name]), name
    logs = [Path(output, "log", "metrics.csv").read_text() for output in (config.output, config.output + "-whole")]
    assert logs[0] == logs[1]


def test_a_run_that_is_interrupted_twice_goes_on(config: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pretrain(replace(config, output=config.output + "-whole"))
    for step in (4, 10):
        interrupt_at(step, config, monkeypatch)
    resumed = pretrain(config).network.state_dict()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.network.state_dict().items())


def test_the_seed_decides(config: PretrainConfig) -> None:
    one = pretrain(config).network.state_dict()
    same = pretrain(replace(config, output=config.output + "2")).network.state_dict()
    other = pretrain(replace(config, output=config.output + "3", seed=1)).network.state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["gene_embedding.table"], other["gene_embedding.table"])


def test_computing_activations_again_changes_no_weight(config: PretrainConfig) -> None:
    kept = pretrain(config).network.state_dict()
    again = pretrain(replace(config, output=config.output + "2", activation_checkpointing="layer")).network.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in kept.items())


@pytest.mark.parametrize(
    ("changes", "fits"),
    [({}, 1), ({"decoder_share": 0.0}, 0), ({"start": "random"}, 0)],
    ids=["spectral", "no share", "random"],
)
def test_a_spectral_run_fits_its_decoder_head_once(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], fits: int
) -> None:
    fitted = []

    def fit_head(self: Pretraining, genes: torch.Tensor, targets: torch.Tensor) -> None:
        fitted.append((self.global_step, genes.shape[0] == len(targets) > 0))

    monkeypatch.setattr(Pretraining, "fit_head", fit_head)
    config = replace(config, **changes)
    interrupt_at(8, config, monkeypatch)
    pretrain(config)
    assert fitted == [(0, True)] * fits


def test_a_folder_belongs_to_one_config(config: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(4, config, monkeypatch)
    with pytest.raises(ConfigError, match="holds a run of another config"):
        pretrain(replace(config, seed=1))
    pretrain(config)
    with pytest.raises(ConfigError, match="is finished already"):
        pretrain(config)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"files": ("nothing.h5ad",)}, "nothing.h5ad"),
        ({"preset": "4M"}, "no preset '4M'"),
        ({"preset": "3M"}, "needs a preset with latent_dim"),
    ],
)
def test_a_run_that_cannot_begin_claims_nothing(config: PretrainConfig, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, FileFormatError), match=message):
        pretrain(replace(config, **wrong))
    assert not Path(config.output).exists()


def test_an_output_that_cannot_be_written_is_named(config: PretrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file.run cannot be written \(Not a directory\); name another output"):
        pretrain(replace(config, output=str(tmp_path / "file" / "run")))


TOML = """
files = ["a.h5ad", "data/b.h5ad"]
output = "run"
preset = "3M"
num_steps = 5
[joined_by]
"data/b.h5ad" = "chemistry"
[model]
latent_dim = 64
[model.encoder]
dim = 32
[masking]
zero_fraction = 0.1
[optimizer]
betas = [0.5, 0.6]
"""


def test_a_toml_is_read_and_its_paths_are_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(TOML)
    config = read_config(tmp_path / "run.toml")
    assert config.files == (str(tmp_path / "a.h5ad"), str(tmp_path / "data" / "b.h5ad"))
    assert config.output == str(tmp_path / "run")
    assert config.joined_by == {str(tmp_path / "data" / "b.h5ad"): "chemistry"}
    assert (config.preset, config.num_steps, config.masking.zero_fraction) == ("3M", 5, 0.1)
    assert config.optimizer.betas == (0.5, 0.6)
    assert config.model == {"latent_dim": 64, "encoder": {"dim": 32}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"files = [", "run.toml is not TOML"),
        (b"\xff\xfe", "run.toml is not TOML"),
        (b"output = 'run'", "`files` is missing"),
        (b"files = ['a']", "`output` is missing"),
        (b"files = 'a.h5ad'\noutput = 'run'", r"run.toml.files: a list is needed, got 'a.h5ad'"),
        (b"files = [3]\noutput = 'run'", r"run.toml.files\[0\]: str is needed, got 3"),
        (b"files = ['a']\noutput = 3", "run.toml.output: str is needed, got 3"),
        (b"files = ['a']\noutput = 'b'\nsteps = 3", "run.toml: unknown setting 'steps'"),
        (b"files = ['a']\noutput = 'b'\n[masking]\nzero = 3", "run.toml.masking: unknown setting 'zero'"),
    ],
)
def test_a_wrong_toml_says_where(text: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(text)
    with pytest.raises(ConfigError, match=message):
        read_config(tmp_path / "run.toml")


def test_a_missing_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No file .*run\.toml"):
        read_config(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        read_config(tmp_path)
