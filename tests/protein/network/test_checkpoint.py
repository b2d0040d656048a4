"""A model folder gives back what was saved, and says what is wrong with one."""

import json
from pathlib import Path

import pytest
import torch

from xtrimogene.errors import CheckpointError
from xtrimogene.protein.network.checkpoint import ProteinModel, load_protein_model, save_protein_model
from xtrimogene.protein.network.packed_sequences import PackedSequences
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.tokenizer import ProteinTokenizer

OURS = ProteinTokenizer.xtrimopglm()


@pytest.fixture
def folder(tiny: ProteinLM, tmp_path: Path) -> Path:
    return save_protein_model(ProteinModel(tiny, OURS, {"sequences": 3}), tmp_path / "models" / "one")


def test_a_model_survives(folder: Path, tiny: ProteinLM) -> None:
    loaded = load_protein_model(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "weights.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["one"], "nothing half-written is left"
    assert (loaded.tokenizer, loaded.name, loaded.card) == (OURS, "one", {"sequences": 3})
    packed = PackedSequences.from_ids([OURS.encode("MKTAYI")])
    with torch.no_grad():
        assert torch.equal(loaded.network(packed), tiny(packed))
    assert not loaded.network.training and not any(weight.requires_grad for weight in loaded.network.parameters())


def test_a_folder_in_use_is_not_overwritten(folder: Path, tiny: ProteinLM) -> None:
    with pytest.raises(CheckpointError, match="exists already"):
        save_protein_model(ProteinModel(tiny, OURS), folder)


def test_what_is_no_number_is_not_saved(tiny: ProteinLM, tmp_path: Path) -> None:
    broken = ProteinLM(tiny.config, seed=0)
    with torch.no_grad():
        broken.head.weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match=r"'head.weight' holds a value that is no finite number"):
        save_protein_model(ProteinModel(broken, OURS), tmp_path / "one")
    assert not list(tmp_path.iterdir())


def change(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def test_folders_that_are_none_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no protein model: config.json and weights.safetensors missing"):
        load_protein_model(tmp_path / "none")
    change(folder, tokenizer="bert")
    with pytest.raises(CheckpointError, match="is not a configuration of ours .*'bert'"):
        load_protein_model(folder)
    change(folder, format="xtrimogene-1")
    with pytest.raises(CheckpointError, match="has format 'xtrimogene-1' and 'xtrimogene-protein-1' is needed"):
        load_protein_model(folder)


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not the file this model was saved with"):
        load_protein_model(folder)
