"""A folder gives back what was written, is never half-written, and says what is wrong with another."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.tasks.saved_folder import Arrays, Facts, SavedFolder

FOLDER = SavedFolder(
    what="oracle", format="oracle-1", json_name="oracle.json", fitted_by="fit_oracle", files=("arrays", "tuned")
)
ARRAYS: Arrays = {"wide": np.arange(6.0).reshape(2, 3).T, "whole": np.array([1, 2])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return FOLDER.write(tmp_path / "deep" / "kept", {"words": ["a"]}, {"arrays": ARRAYS, "tuned": {"own": np.zeros(1)}})


def told(facts: Facts, files: Mapping[str, Arrays]) -> Any:
    return facts["words"], files


def test_what_was_written_is_read(folder: Path, tmp_path: Path) -> None:
    words, files = FOLDER.read(folder, told)
    assert words == ["a"] and list(files) == ["arrays", "tuned"] and list(files["tuned"]) == ["own"]
    assert files["arrays"].keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(files["arrays"][name], array, strict=True)
    facts = json.loads((folder / "oracle.json").read_text())
    hashes = {"sha256": "arrays.safetensors", "tuned_sha256": "tuned.safetensors"}
    assert facts == {"format": "oracle-1", "words": ["a"]} | {k: file_sha256(folder / v) for k, v in hashes.items()}
    assert [path.name for path in folder.parent.iterdir()] == ["kept"]
    _, files = FOLDER.read(FOLDER.write(tmp_path / "other", {"words": []}, {"arrays": ARRAYS}), told)
    assert list(files) == ["arrays"]


@pytest.mark.parametrize("name", ["arrays.safetensors", "tuned.safetensors"])
def test_arrays_that_were_altered_or_removed_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match=f"{name} is not the file this oracle was saved with; fit it again"):
        FOLDER.read(folder, told)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=r"no oracle at .*\(No such file.*oracle\.json .* fit_oracle writes it"):
        FOLDER.read(folder, told)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "is no oracle of ours"),
        ("{", "is no oracle of ours"),
        ("[" * 100_000, "is no oracle of ours"),
        ('{"words": []}', r"is no oracle of ours \(KeyError\('format'\)\); fit it again"),
        ('{"format": "oracle-1"}', r"is no oracle of ours \(KeyError\('words'\)\)"),
        ('{"format": "oracle-2"}', "has format 'oracle-2'; this version reads 'oracle-1'"),
    ],
)
def test_a_json_of_another_kind_is_refused(folder: Path, text: str, words: str) -> None:
    (folder / "oracle.json").write_text(text)
    with pytest.raises(CheckpointError, match=words):
        FOLDER.read(folder, told)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no oracle at"):
        FOLDER.read(tmp_path / "nothing", told)
    with pytest.raises(CheckpointError, match="no oracle at"):
        FOLDER.read(tmp_path, told)


def test_nothing_is_written_over(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="exists already"):
        FOLDER.write(folder, {}, {"arrays": ARRAYS})
    assert FOLDER.read(folder, told)[0] == ["a"]
    (folder.parent / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        FOLDER.write(folder.parent / "file" / "kept", {}, {"arrays": ARRAYS})


def test_nothing_is_left_of_what_was_not_finished(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        FOLDER.write(tmp_path / "kept", {"words": {1}}, {"arrays": ARRAYS})
    assert list(tmp_path.iterdir()) == []


def test_nan_is_written_only_where_it_may_be(tmp_path: Path) -> None:
    strict = replace(FOLDER, allow_nan=False)
    with pytest.raises(ValueError, match="Out of range float"):
        strict.write(tmp_path / "strict", {"figure": float("nan")}, {"arrays": {}})
    assert not list(tmp_path.iterdir())
    FOLDER.write(tmp_path / "lenient", {"figure": float("nan")}, {"arrays": {}})
