"""Bad input through the command line: each its own sentence, exit code 2, and no output file."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import h5py
import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy.sparse import csr_matrix

from xtrimogene.cli import main

MakeCells = Callable[..., AnnData]
Spoil = Callable[[AnnData, Path], None]


def dense(cells: AnnData) -> np.ndarray:
    return np.asarray(cells.X.toarray(), np.float32)


def write_values(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    def spoil(cells: AnnData, path: Path) -> None:
        cells.X = csr_matrix(change(dense(cells)).astype(np.float32))
        cells.write_h5ad(path)

    return spoil


def write_names(change: Callable[[int, str], str]) -> Spoil:
    def spoil(cells: AnnData, path: Path) -> None:
        cells.var_names = [change(gene, name) for gene, name in enumerate(cells.var_names)]
        cells.write_h5ad(path)

    return spoil


def write_file(change: Callable[[Path], None]) -> Spoil:
    def spoil(cells: AnnData, path: Path) -> None:
        cells.write_h5ad(path)
        change(path)

    return spoil


def put(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[7, 11] = value
        return values

    return change


def scale(values: np.ndarray) -> np.ndarray:
    logged = np.log1p(values * 1e4 / values.sum(axis=1, keepdims=True))
    return np.asarray((logged - logged.mean(axis=0)) / (logged.std(axis=0) + 1e-3))


def to_tpm(values: np.ndarray) -> np.ndarray:
    per_base = values * np.random.default_rng(0).gamma(2.0, 1.0, values.shape[1])
    return np.asarray(per_base * 1e6 / per_base.sum(axis=1, keepdims=True))


def overwrite(dataset: str, place: int, value: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file[dataset][place] = value

    return change


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def link_elsewhere(path: Path) -> None:
    secret = path.with_name("secret.h5")
    with h5py.File(secret, "w") as file:
        file["data"] = np.ones(3)
    with h5py.File(path, "r+") as file:
        del file["X/data"]
        file["X/data"] = h5py.ExternalLink(secret.name, "/data")


def store_elsewhere(path: Path) -> None:
    secret = path.with_name("secret.bin")
    with h5py.File(path, "r+") as file:
        number = file["X/data"].shape[0]
        secret.write_bytes(np.ones(number, np.float32).tobytes())
        del file["X/data"]
        file.create_dataset("X/data", (number,), "f4", external=[(str(secret), 0, 4 * number)])


def replace(name: str, value: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            if name in file:
                del file[name]
            file[name] = value

    return change


def declare(group: str, name: str, value: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file[group].attrs[name] = value

    return change


SPOILED: dict[str, tuple[Spoil, str]] = {
    "mouse genes": (write_names(lambda _, name: name.capitalize()), "mouse .* map them to human orthologs"),
    "mouse ids": (write_names(lambda gene, _: f"ENSMUSG{gene:011d}"), "mouse ids and the model is human"),
    "row numbers": (write_names(lambda gene, _: str(gene)), "row numbers"),
    "negative": (write_values(put(-1.0)), "a negative value .* in cell row 7"),
    "nan": (write_values(put(np.nan)), "a missing value .* in cell row 7"),
    "infinite": (write_values(put(np.inf)), "an infinite value in cell row 7"),
    "scaled": (write_values(scale), "scaled or corrected data"),
    "tpm": (write_values(to_tpm), "looks like TPM/CPM.*kind=.bulk"),
    "fractional": (write_values(lambda values: values * 0.37), "neither counts nor log1p of counts"),
    "zeros": (write_values(lambda values: values * 0), "holds only zeros"),
    "no file": (lambda cells, path: None, "does not exist"),
    "empty": (lambda cells, path: path.write_bytes(b""), "empty .0 bytes"),
    "truncated": (write_file(truncate), "truncated or damaged"),
    "no hdf5": (lambda cells, path: path.write_text("gene,cell\n" * 100), "no HDF5 file"),
    "falling indptr": (write_file(overwrite("X/indptr", 3, 2**31 - 1)), "bad indptr"),
    "negative indptr": (write_file(overwrite("X/indptr", 3, -5)), "bad indptr"),
    "high index": (write_file(overwrite("X/indices", 5, 2**31 - 1)), "bad index: 2,147,483,647"),
    "negative index": (write_file(overwrite("X/indices", 5, -400)), "bad index: -400"),
    "one number for an index": (write_file(replace("obs/_index", 3)), "has no index"),
    "layers that are an array": (write_file(replace("layers", np.ones(3))), "an array where its layers belong"),
    "a shape in words": (write_file(declare("X", "shape", "many")), "declares the shape 'many'"),
    "one number for a shape": (write_file(declare("X", "shape", 400)), "declares the shape '400'"),
    "no encoding": (write_file(declare("X", "encoding-type", np.arange(2))), "stored as '.0 1.'; a dense array"),
    "external link": (write_file(link_elsewhere), "link to another file .secret.h5."),
    "external storage": (write_file(store_elsewhere), "external storage"),
}
CRASH_PRONE = ("falling indptr", "high index")  # scipy's C code believes them


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a command, checks that it fails as it must, and returns its sentence."""

    def call(*arguments: object) -> str:
        before = {path.name for path in tmp_path.iterdir()}
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr().err
        assert left.value.code == 2
        assert said.startswith("error: ") and said.count("error:") == 1 and "Traceback" not in said
        assert {path.name for path in tmp_path.iterdir()} == before
        return " ".join(said.split())

    return call


@pytest.mark.parametrize("name", SPOILED)
def test_cells(name: str, refuse: Callable[..., str], make_cells: MakeCells, tiny_folder: Path, tmp_path: Path) -> None:
    spoil, wanted = SPOILED[name]
    spoil(make_cells(), tmp_path / "cells.h5ad")
    said = refuse("embed", tmp_path / "cells.h5ad", tmp_path / "out.h5ad", "--model", tiny_folder)
    assert re.search(wanted, said), said
    said = refuse("check", tmp_path / "cells.h5ad", "--model", tiny_folder)
    assert re.search(wanted, said), said


def test_nine_genes(refuse: Callable[..., str], make_cells: MakeCells, tiny_folder: Path, tmp_path: Path) -> None:
    make_cells(density=0.9)[:, :9].copy().write_h5ad(tmp_path / "cells.h5ad")
    said = refuse("embed", tmp_path / "cells.h5ad", tmp_path / "out.h5ad", "--model", tiny_folder)
    assert "9 of 9 genes" in said and "at least 200 genes are needed" in said and "before genes were selected" in said
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    said = refuse("embed", tmp_path / "cells.h5ad", tmp_path / "out.h5ad", "--model", tiny_folder, "--min-genes", 999)
    assert "at least 999 genes are needed" in said and "The model has only 400 genes: ask for fewer" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", CRASH_PRONE)
def test_no_process_dies(name: str, make_cells: MakeCells, tiny_folder: Path, tmp_path: Path) -> None:
    SPOILED[name][0](make_cells(), tmp_path / "cells.h5ad")
    command = ["embed", "cells.h5ad", "out.h5ad", "--model", str(tiny_folder)]
    code = "from xtrimogene.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"cells.h5ad"}


@pytest.mark.shared
def test_real_tpm(refuse: Callable[..., str], shared: Path, tiny_folder: Path, tmp_path: Path) -> None:
    said = refuse("embed", shared / "data" / "pollen.h5ad", tmp_path / "out.h5ad", "--model", tiny_folder)
    assert "looks like TPM" in said and 'kind="bulk"' in said


@pytest.fixture
def model_folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny model's folder, to be spoiled."""
    return Path(copytree(tiny_folder, tmp_path / "model"))


def corrupt_weights(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-100] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def rename_weights(folder: Path) -> None:
    (folder / "weights.safetensors").rename(folder / "model.safetensors")


def rename_another_file(folder: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, folder / "weights.safetensors")


def swap_gene_table(folder: Path) -> None:
    header, *rows = (folder / "genes.tsv").read_text().splitlines(keepends=True)
    (folder / "genes.tsv").write_text("".join([header, *reversed(rows)]))


def shorten_gene_table(folder: Path) -> None:
    rows = (folder / "genes.tsv").read_text().splitlines(keepends=True)
    (folder / "genes.tsv").write_text("".join(rows[:300]))
    config = json.loads((folder / "config.json").read_text())
    config["sha256"]["genes.tsv"] = hashlib.sha256((folder / "genes.tsv").read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


CHECKPOINTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "corrupted weights": (corrupt_weights, r"weights.safetensors is not the file this checkpoint was saved with"),
    "renamed weights": (rename_weights, "no complete checkpoint: weights.safetensors missing"),
    "another file under its name": (rename_another_file, "is not the file this checkpoint was saved with"),
    "another order of genes": (swap_gene_table, r"genes.tsv is not the file this checkpoint was saved with"),
    "another gene table": (shorten_gene_table, "lists 299 genes and the model has 400"),
    "broken config": (break_config, "is not JSON"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(
    name: str, refuse: Callable[..., str], make_cells: MakeCells, model_folder: Path, tmp_path: Path
) -> None:
    spoil, wanted = CHECKPOINTS[name]
    spoil(model_folder)
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    said = refuse("embed", tmp_path / "cells.h5ad", tmp_path / "out.h5ad", "--model", model_folder)
    assert re.search(wanted, said), said


def test_no_such_model(refuse: Callable[..., str], make_cells: MakeCells, tmp_path: Path) -> None:
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    said = refuse("embed", tmp_path / "cells.h5ad", tmp_path / "out.h5ad", "--model", tmp_path / "renamed")
    assert "No model at" in said and "or the name 'demo'" in said
    (tmp_path / "models.ckpt").write_bytes(b"weights")
    said = refuse("embed", tmp_path / "cells.h5ad", tmp_path / "out.h5ad", "--model", tmp_path / "models.ckpt")
    assert "xtrimogene convert scfoundation" in said


class RunsCode:
    """What a hostile pickle looks like: opening it calls a function of its choice."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return Path.touch, (Path("opened"),)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (RunsCode(), "a pickle that holds more than tensors"),
        ({"cell": RunsCode()}, "a pickle that holds more than tensors"),
        ({"state_dict": {}}, "holds state_dict; a model named 'cell' is needed"),
        ({"cell": {"config": {}, "state_dict": {}}}, "not the released scFoundation layout"),
        (None, "is not a torch checkpoint"),
    ],
)
def test_convert(content: object, wanted: str, refuse: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "genes.tsv").write_text("gene_name\tindex\nA1BG\t0\n")
    if content is None:
        (tmp_path / "models.ckpt").write_bytes(b"not a checkpoint")
    else:
        torch.save(content, tmp_path / "models.ckpt")
    options = ("--genes", tmp_path / "genes.tsv", "--out", tmp_path / "out")
    said = refuse("convert", "scfoundation", tmp_path / "models.ckpt", *options)
    assert re.search(wanted, said), said
    assert not Path("opened").exists()


@pytest.mark.shared
def test_convert_with_another_gene_list(refuse: Callable[..., str], shared: Path, tmp_path: Path) -> None:
    released = shared / "reference" / "scfoundation_small" / "models.ckpt"
    (tmp_path / "genes.tsv").write_text("gene_name\tindex\nA1BG\t0\n")
    said = refuse(*("convert", "scfoundation", released, "--genes", tmp_path / "genes.tsv", "--out", tmp_path / "out"))
    assert "lists 1 genes and the model of" in said
    said = refuse(*("convert", "scfoundation", released, "--genes", tmp_path / "none.tsv", "--out", tmp_path / "out"))
    assert "cannot be read" in said
