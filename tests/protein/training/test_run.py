"""A run from files to a model folder: resumed where it was killed, and begun from another's weights."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from xtrimogene.config import to_dict
from xtrimogene.errors import ConfigError
from xtrimogene.protein.config import ObjectiveStage, ProteinPretrainConfig
from xtrimogene.protein.generation.generate import generate
from xtrimogene.protein.network.checkpoint import load_protein_model
from xtrimogene.protein.sequences.sequence_store import SequenceStore
from xtrimogene.protein.training.held_out import held_out_loss
from xtrimogene.protein.training.run import pretrain, read_config

KILLED = """
import json, os, signal, sys, warnings
import torch
from xtrimogene.config import from_dict
from xtrimogene.protein.config import ProteinPretrainConfig
from xtrimogene.protein.training.lightning_module import ProteinPretraining
from xtrimogene.protein.training.run import pretrain

warnings.simplefilter("ignore")
torch.set_num_threads(1)
whole = ProteinPretraining.training_step

def training_step(self, *batch):
    whole(self, *batch)
    if self.global_step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

ProteinPretraining.training_step = training_step
pretrain(from_dict(ProteinPretrainConfig, json.loads(sys.argv[1])))
"""


def losses(config: ProteinPretrainConfig) -> str:
    return (Path(config.output) / "log" / "metrics.csv").read_text()


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(config: ProteinPretrainConfig) -> None:
    quiet, killed = replace(config, output=config.output + "-quiet"), config
    expected = pretrain(quiet)
    assert losses(quiet).count("\n") == 13
    for step in (3, 8):
        command = [sys.executable, "-c", KILLED, json.dumps(to_dict(killed)), str(step)]
        assert subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == -9
    trained = pretrain(killed)
    assert losses(killed) == losses(quiet)
    for name, weight in expected.network.state_dict().items():
        assert torch.equal(weight, trained.network.state_dict()[name]), name
    loaded = load_protein_model(Path(killed.output) / "model")
    assert torch.equal(loaded.network.head.weight, trained.network.head.weight)
    assert loaded.card["sequences"] == 20 and loaded.card["final_losses"].keys() >= {"loss", "gradient_norm"}
    assert generate(loaded, prefix="MK", max_length=9)[0].startswith("MK")
    with pytest.raises(ConfigError, match="is finished already"):
        pretrain(killed)
    with pytest.raises(ConfigError, match="holds a run of another config"):
        pretrain(replace(killed, seed=1))


def test_mlm_begins_with_the_weights_of_clm(config: ProteinPretrainConfig) -> None:
    first = replace(config, output=config.output + "-clm", stages=(ObjectiveStage(num_steps=2, clm=1.0),))
    before = pretrain(first)
    second = replace(
        config,
        stages=(ObjectiveStage(num_steps=1, mlm=1.0),),
        initialize_from=str(Path(first.output) / "model"),
        peak_lr=1e-9,
    )
    after = pretrain(second)
    for name, weight in before.network.state_dict().items():
        torch.testing.assert_close(after.network.state_dict()[name], weight, atol=1e-7, rtol=0)
    other = replace(second, output=config.output + "-other", model=replace(config.model, num_layers=2))
    with pytest.raises(ConfigError, match="is a model of another shape or vocabulary: .*num_layers=1"):
        pretrain(other)


def test_a_vocabulary_that_is_too_small_is_refused(config: ProteinPretrainConfig) -> None:
    with pytest.raises(ConfigError, match="vocabulary_size=30 is too small for .*, which has 35 ids"):
        pretrain(replace(config, model=replace(config.model, vocabulary_size=30)))
    assert not Path(config.output).exists()


def test_losses_of_validation_files_are_those_of_each_objective(config: ProteinPretrainConfig) -> None:
    stages = (ObjectiveStage(num_steps=1, mlm=1.0), ObjectiveStage(num_steps=2, mlm=0.5, clm=0.5))
    watched = replace(config, stages=stages, validation_files=config.files, validate_every=2)
    trained = pretrain(watched)
    lines = (Path(config.output) / "log" / "validation.csv").read_text().splitlines()
    assert lines[0] == "step,mlm_loss,clm_loss"
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "2", "3"]
    tokenizer = trained.tokenizer
    sequences = SequenceStore.from_files(config.files, tokenizer, max_length=config.model.max_length)
    again = held_out_loss(trained.network, tokenizer, sequences, ObjectiveStage(num_steps=1, clm=1.0))
    assert trained.card["validation_losses"]["clm_loss"] == pytest.approx(again, rel=1e-6)


def test_a_toml_is_read_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(
        'files = ["a.fasta"]\noutput = "run"\ninitialize_from = "clm/model"\n'
        "[[stages]]\nnum_steps = 5\nmlm = 1.0\n[model]\ndim = 64\nnum_heads = 2\n"
    )
    config = read_config(tmp_path / "run.toml")
    assert config.files == (str(tmp_path / "a.fasta"),) and config.output == str(tmp_path / "run")
    assert config.initialize_from == str(tmp_path / "clm" / "model")
    assert config.stages == (ObjectiveStage(num_steps=5, mlm=1.0),) and config.model.dim == 64
    (tmp_path / "run.toml").write_text('files = ["a.fasta"]\noutput = "run"\n')
    with pytest.raises(ConfigError, match="`stages` is missing"):
        read_config(tmp_path / "run.toml")
