"""Splits in both forms, written here by hand, and the real ones."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from xtrimogene.errors import FileFormatError
from xtrimogene.protein.probe.flip import read_protein_task, read_residue_task


def zipped(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"splits/{name.replace('_', '.')}", content)
    return path


FASTA = """>Sequence0 TARGET=1.5 SET=train VALIDATION=False
MKT
AY
>Sequence1 TARGET=-2e-1 SET=train VALIDATION=True
MKW
>Sequence2 TARGET=0 SET=test VALIDATION=True
MKV
"""
CSV = "sequence,target,set,validation\nMKTAY,1.5,train,\nMKW,-0.2,train,True\nMKV,0.0,test,True\n"


@pytest.mark.parametrize("files", [{"one_fasta": FASTA}, {"one_csv": CSV}])
def test_a_number_of_each_protein(tmp_path: Path, files: dict[str, str]) -> None:
    task = read_protein_task(zipped(tmp_path / "a.zip", **files), "one")
    assert task.sequences == ["MKTAY", "MKW", "MKV"]
    assert task.targets.tolist() == [1.5, -0.2, 0.0]
    assert task.train.tolist() == [True, True, False]
    assert task.validation.tolist() == [False, True, False]  # nothing of the test


def residues(tmp_path: Path, **other: str) -> Path:
    files = {
        "sampled_fasta": ">b SET=test VALIDATION=False\nHEC\n>a SET=train VALIDATION=True\nCC\n",
        "sequences_fasta": ">a\nMK\n>b\nMKT\n",
        "mask_fasta": ">a\n01\n>b\n110\n",
    }
    return zipped(tmp_path / "a.zip", **files | other)


def test_a_label_of_each_residue(tmp_path: Path) -> None:
    task = read_residue_task(residues(tmp_path))
    assert (task.names, task.sequences, task.labels) == (["b", "a"], ["MKT", "MK"], ["HEC", "CC"])
    assert [mask.tolist() for mask in task.masks] == [[True, True, False], [False, True]]
    assert (task.train.tolist(), task.validation.tolist()) == ([False, True], [False, True])


def test_what_is_no_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"'b' has 4 residues, 3 labels and a mask of 3; they must be as many"):
        read_residue_task(residues(tmp_path, sequences_fasta=">a\nMK\n>b\nMKTT\n"))
    with pytest.raises(FileFormatError, match="is no FLIP task of residues"):
        read_residue_task(residues(tmp_path, sequences_fasta=">a\nMK\n"))
    with pytest.raises(FileFormatError, match="is no FLIP task of proteins"):
        read_protein_task(residues(tmp_path), "sampled")
    with pytest.raises(FileFormatError, match=r"has no splits/two.csv; it holds splits/mask.fasta, "):
        read_protein_task(residues(tmp_path), "two")
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_protein_task(tmp_path / "none.zip", "two")


@pytest.mark.shared
def test_the_real_splits(shared: Path) -> None:
    flip = shared / "data" / "protein" / "flip"
    task = read_protein_task(flip / "gb1.zip", "two_vs_rest")
    assert (len(task.sequences), task.train.sum(), task.validation.sum()) == (8733, 424, 43)
    structure = read_residue_task(flip / "secondary_structure.zip")
    assert (structure.train.sum(), structure.validation.sum(), len(structure.names)) == (10792, 1080, 11156)
    assert set("".join(structure.labels)) == set("HEC")
    assert sum(int(mask.sum()) for mask in structure.masks) == 2_658_218
    assert np.isfinite(task.targets).all()
