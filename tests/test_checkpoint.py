"""A checkpoint folder comes back as it was saved, or says why not."""

import json
import shutil
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from xtrimogene import checkpoint
from xtrimogene.checkpoint import PretrainedModel, load, save
from xtrimogene.config import DecoderConfig, EncoderConfig, ModelConfig
from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import CheckpointError, MissingExtraError
from xtrimogene.model.xtrimogene import XTrimoGene

PARTS = ["card.json", "config.json", "genes.tsv", "weights.safetensors"]
GENES = GeneVocabulary(tuple(f"G{i}" for i in range(30)), tuple(f"ENSG{i:011d}" if i % 2 else "" for i in range(30)))
CONFIG = ModelConfig(
    num_genes=30,
    encoder=EncoderConfig(dim=8, num_layers=1, num_heads=2),
    decoder=DecoderConfig(dim=4, num_layers=1, num_heads=1, num_features=4),
    num_bins=4,
    latent_dim=3,
)
MODULES = [
    "decoder.blocks.0.attention.key",
    "decoder.blocks.0.attention.out",
    "decoder.blocks.0.attention.query",
    "decoder.blocks.0.attention.value",
    "decoder.blocks.0.attention_norm",
    "decoder.blocks.0.contract",
    "decoder.blocks.0.expand",
    "decoder.blocks.0.feed_forward_norm",
    "decoder.inner_norm",
    "decoder.outer_norm",
    "decoder.project",
    "encoder.blocks.0.attention.out",
    "encoder.blocks.0.attention.qkv",
    "encoder.blocks.0.attention_norm",
    "encoder.blocks.0.contract",
    "encoder.blocks.0.expand",
    "encoder.blocks.0.feed_forward_norm",
    "encoder.norm",
    "head",
    "latent_head.contract",
    "latent_head.depth",
    "latent_head.expand",
    "latent_head.gene_query",
    "latent_head.to_latent",
    "value_embedding.mix_bins",
    "value_embedding.to_bins",
]
TENSORS = [
    "decoder.blocks.0.attention.projection",
    "gene_embedding.table",
    "latent_head.depth_direction",
    "latent_head.gene_bias",
    "value_embedding.bins",
    "value_embedding.mask",
]


@pytest.fixture
def model() -> PretrainedModel:
    return PretrainedModel(XTrimoGene(CONFIG, seed=7), GENES, {"licence": "none", "cells": 3})


@pytest.fixture
def folder(model: PretrainedModel, tmp_path: Path) -> Path:
    return save(model, tmp_path / "models" / "small")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which is not to be reached."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_round_trip(model: PretrainedModel, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == PARTS
    found = load(folder)
    assert found.config == CONFIG and found.genes == GENES and dict(found.card) == {"licence": "none", "cells": 3}
    assert found.name == "small" and found.sha256 == file_sha256(folder / "weights.safetensors")
    own = model.network.state_dict()
    assert found.network.state_dict().keys() == own.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in found.network.state_dict().items())
    assert not found.network.training and not any(p.requires_grad for p in found.network.parameters())
    assert load(found) is found and load(str(folder)).sha256 == found.sha256


def test_keys_are_these(folder: Path) -> None:
    # files that people keep hold these names: a rename needs a new format
    keys = {f"{module}.{kind}" for module in MODULES for kind in ("bias", "weight")} | set(TENSORS)
    assert set(load_file(folder / "weights.safetensors")) == keys


def test_float16_is_read_as_float32(model: PretrainedModel, tmp_path: Path) -> None:
    half = save(model, tmp_path / "half", dtype=torch.float16)
    weights = load_file(half / "weights.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    for name, tensor in load(half).network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, model.network.state_dict()[name].half().float())


def test_loading_draws_no_weight(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("weights were drawn")

    monkeypatch.setattr("xtrimogene.model.xtrimogene.initialize", fail)
    load(folder)


def test_a_folder_that_cannot_be_made_is_named(model: PretrainedModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"deeper.model cannot be written \(.*\); name another folder"):
        save(model, tmp_path / "file" / "deeper" / "model")


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), torch.float32), (1e5, torch.float16)])
def test_weights_that_are_no_numbers_are_not_saved(value: float, dtype: torch.dtype, tmp_path: Path) -> None:
    network = XTrimoGene(CONFIG)
    with torch.no_grad():
        network.head.bias.fill_(value)
    with pytest.raises(CheckpointError, match=f"'head.bias' holds a value that is no finite number in {dtype}"):
        save(PretrainedModel(network, GENES), tmp_path / "small", dtype=dtype)
    assert not any(tmp_path.iterdir())


def test_a_model_is_shown_in_a_line(folder: Path) -> None:
    found = load(folder)
    shown = repr(found)
    assert len(shown) < 120
    assert "'small'" in shown and f"{sum(p.numel() for p in found.network.parameters()):,} parameters" in shown


def test_a_model_is_called_as_its_folder_however_that_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "within").mkdir()
    for place, text in ((folder, "."), (folder / "within", "..")):
        monkeypatch.chdir(place)
        assert load(text).name == folder.name


def test_a_model_is_frozen(model: PretrainedModel) -> None:
    with pytest.raises(FrozenInstanceError):
        model.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("part", ["weights", "json"])
def test_nothing_half_written_is_seen(
    part: str, model: PretrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    if part == "json":
        monkeypatch.setattr(checkpoint.json, "dumps", fail)
    else:
        monkeypatch.setattr(checkpoint, "to_bytes", fail)
    with pytest.raises(CheckpointError, match="small cannot be written .disk full.; name another folder"):
        save(model, tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


def test_every_file_is_as_readable_as_the_others(folder: Path) -> None:
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_a_folder_that_holds_something_is_left_alone(model: PretrainedModel, folder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(CheckpointError, match="exists already; name a new folder"):
        save(model, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(CheckpointError, match="exists already"):
        save(model, file)
    empty = tmp_path / "empty"
    empty.mkdir()
    load(save(model, empty))


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"No model at .*nowhere.*or the name 'demo'"):
        load(tmp_path / "nowhere")


def test_a_name_the_disk_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read .File name too long.; check its name and permissions"):
        load(tmp_path / ("m" * 300))


def test_the_hub_gives_the_parts_it_holds(folder: Path, hub: Path) -> None:
    cached = hub / "models--owner--name"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "v1").write_text("0" * 40)
    shutil.copytree(folder, cached / "snapshots" / ("0" * 40))
    loaded = load("hf://owner/name@v1")
    assert loaded.name == "hf://owner/name@v1" and loaded.sha256 == load(folder).sha256
    with pytest.raises(CheckpointError, match="hf://owner/name@v2 could not be fetched"):
        load("hf://owner/name@v2")


@pytest.mark.parametrize("address", ["hf://owner/name", "hf://too/many/parts", "hf://"])
def test_what_the_hub_does_not_give_is_told_in_a_line(address: str, hub: Path) -> None:
    with pytest.raises(CheckpointError, match=f"^{address} could not be fetched: .*Check the name.*$") as caught:
        load(address)
    assert "\n" not in str(caught.value)


def test_the_hub_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"hf://owner/name needs an extra: pip install 'xtrimogene\[hub\]'"):
        load("hf://owner/name")


def test_a_file_points_to_convert(tmp_path: Path) -> None:
    path = tmp_path / "models.ckpt"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="xtrimogene convert scfoundation"):
        load(path)


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named(part: str, folder: Path) -> None:
    (folder / part).unlink()
    with pytest.raises(CheckpointError, match=rf"no complete checkpoint: {part} missing"):
        load(folder)


@pytest.mark.parametrize("change", ["flip", "cut", "empty"])
@pytest.mark.parametrize("part", ["weights.safetensors", "genes.tsv"])
def test_an_altered_file_is_noticed(part: str, change: str, folder: Path) -> None:
    content = bytearray((folder / part).read_bytes())
    content[-10] ^= 1
    (folder / part).write_bytes({"flip": bytes(content), "cut": bytes(content[:-7]), "empty": b""}[change])
    with pytest.raises(CheckpointError, match=rf"{part} is not the file this checkpoint was saved with"):
        load(folder)


def test_another_gene_table_is_noticed(folder: Path) -> None:
    # as many genes, in another order: every result would be silently wrong
    GeneVocabulary(GENES.symbols[::-1], GENES.ensembl_ids[::-1]).write(folder / "genes.tsv")
    with pytest.raises(CheckpointError, match="genes.tsv is not the file"):
        load(folder)


def rehash(folder: Path) -> None:
    """What somebody does who edits a file and the sums with it."""
    config = json.loads((folder / "config.json").read_text())
    config["sha256"] = {name: file_sha256(folder / name) for name in config["sha256"]}
    (folder / "config.json").write_text(json.dumps(config))


def test_a_gene_table_of_another_length_is_refused(folder: Path) -> None:
    GeneVocabulary(GENES.symbols[:-1], GENES.ensembl_ids[:-1]).write(folder / "genes.tsv")
    rehash(folder)
    with pytest.raises(CheckpointError, match="lists 29 genes and the model has 30"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("head.bias"), r"misses 'head.bias' \(and 0 more\)"),
        (lambda w: w.update({"head.scale": torch.ones(1)}), r"has the unknown 'head.scale' \(and 0 more\)"),
        (lambda w: w.update({"head.bias": torch.ones(2)}), r"'head.bias' has shape \(2,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: object, message: str, folder: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    change(weights)  # type: ignore[operator]
    save_file(weights, folder / "weights.safetensors")
    rehash(folder)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_weights_that_are_no_safetensors_are_refused(folder: Path) -> None:
    torch.save({"head.bias": torch.ones(1)}, folder / "weights.safetensors")
    rehash(folder)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="xtrimogene-2"), r"has format 'xtrimogene-2'; this version reads 'xtrimogene-1'"),
        (lambda c: c.pop("format"), "has format None"),
        (lambda c: c.pop("model"), "not a configuration of ours"),
        (lambda c: c.update(model=[]), "not a configuration of ours"),
        (lambda c: c["model"].update(width=3), "unknown setting 'width'"),
        (lambda c: c["model"]["encoder"].update(num_heads=3), "not a multiple of num_heads=3"),
        (lambda c: c["sha256"].pop("genes.tsv"), "not a configuration of ours"),
        (lambda c: c.update(sha256="abc"), "not a configuration of ours"),
        (lambda c: c["model"]["encoder"].update(num_layers=2), "misses 'encoder.blocks.1"),
    ],
)
def test_a_config_that_is_not_ours_is_refused(change: object, message: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)  # type: ignore[operator]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
@pytest.mark.parametrize("part", ["config.json", "card.json"])
def test_broken_json_is_refused(part: str, content: bytes, folder: Path) -> None:
    (folder / part).write_bytes(content)
    with pytest.raises(CheckpointError, match=part):
        load(folder)


def test_a_copied_folder_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert load(tmp_path / "elsewhere").sha256 == load(folder).sha256


@pytest.fixture
def known(model: PretrainedModel, tmp_path: Path) -> Path:
    hashes = np.array([9, 3, 2**64 - 1, 3], dtype=np.uint64)
    return save(replace(model, cell_hashes=hashes), tmp_path / "known")


def test_the_cells_trained_on_travel_sorted(known: Path, folder: Path) -> None:
    assert load(folder).cell_hashes is None
    hashes = load(known).cell_hashes
    assert hashes is not None and hashes.tolist() == [3, 9, 2**64 - 1] and hashes.dtype == np.uint64


def test_hashes_that_are_missing_altered_or_none_are_refused(known: Path) -> None:
    (known / "cells.npy").rename(known / "away.npy")
    with pytest.raises(CheckpointError, match="cells.npy missing"):
        load(known)
    np.save(known / "cells.npy", np.zeros(3, dtype=np.uint64))
    with pytest.raises(CheckpointError, match="cells.npy is not the file"):
        load(known)
    for content, message in ((np.zeros(3), "holds float64 values"), (np.array([{}]), "is not a NumPy file")):
        np.save(known / "cells.npy", content, allow_pickle=True)
        config = json.loads((known / "config.json").read_text())
        config["sha256"]["cells.npy"] = file_sha256(known / "cells.npy")
        (known / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=message):
            load(known)
