"""The command line: help, exit codes, what it writes and what it leaves behind."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad

import xtrimogene as xt
from xtrimogene import tl
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import PretrainConfig
from xtrimogene.tasks.annotation.held_out_text import held_out_lines

MakeCells = Callable[..., AnnData]
Run = Callable[..., tuple[int, str, str]]
COMMANDS = [
    ["demo"],
    ["check"],
    ["embed"],
    ["annotate"],
    ["map"],
    ["index"],
    ["search"],
    ["convert", "scfoundation"],
    ["store", "build"],
    ["store", "info"],
    ["plan"],
    ["pretrain"],
    ["evaluate", "annotation"],
    ["protein", "plan"],
    ["protein", "fit"],
    ["protein", "pretrain"],
    ["protein", "embed"],
    ["protein", "score"],
    ["protein", "generate"],
]


@pytest.fixture
def cells(make_cells: MakeCells, tmp_path: Path) -> Path:
    make_cells().write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_fits_and_shows_an_example(run: Run, command: list[str]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    text = re.sub(r"\s+", " ", out)
    assert f"Example: xtrimogene {' '.join(command)}" in text
    assert max(map(len, out.splitlines())) <= 80


def test_help_lists_the_commands_and_version_is_the_packages(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0 and all(command[0] in out for command in COMMANDS)
    assert run("--version") == (0, f"xtrimogene {xt.__version__}\n", "")


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, xtrimogene.cli; print({'torch', 'anndata', 'numpy', 'lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_embed_writes_what_tl_embed_gives(
    run: Run, cells: Path, tiny_folder: Path, tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    out = cells.parent / "out.h5ad"
    code, said, warned = run("embed", cells, out, "--model", tiny_folder)
    assert (code, warned) == (0, "")
    assert said == f"{out}: 12 cells x 12 in obsm['X_xtrimogene']\n"
    written = read_h5ad(out)
    assert written.X is None and list(written.obs.columns) == ["cell_type"]
    wanted = tl.embed(make_cells(), tiny_model).obsm["X_xtrimogene"]
    np.testing.assert_allclose(written.obsm["X_xtrimogene"], wanted, rtol=0, atol=1e-5)
    assert written.uns["xtrimogene"]["model"] == "tiny" and len(written.uns["xtrimogene"]["sha256"]) == 64
    assert left_in(cells.parent) == {"cells.h5ad", "out.h5ad"}


@pytest.mark.filterwarnings("ignore:precision='int8' is several times slower")
def test_options_reach_the_library(run: Run, cells: Path, tiny_folder: Path) -> None:
    out = cells.parent / "out.h5ad"
    options = ["--pool", "max", "--read-depth", "t4", "--key-added", "X_max", "--token-budget", "1", "--device", "cpu"]
    options += ["--precision", "int8"]
    assert run("embed", cells, out, "-m", tiny_folder, "--kind", "bulk", "--layer", "X", *options)[0] == 0
    record = read_h5ad(out).uns["max"]["options"]
    assert (record["pool"], record["read_depth"], record["kind"]) == ("max", "t4", "bulk")
    assert record["precision"] == "int8"


def test_search_writes_what_tl_search_gives(run: Run, cells: Path, tiny_folder: Path, make_cells: MakeCells) -> None:
    known, index, out = (cells.with_name(name) for name in ("known.h5ad", "index", "hits.csv"))
    cells_known = make_cells(num_cells=9, seed=1)
    cells_known.obs["note"] = 'a\rline, "NA"\n'
    cells_known.write_h5ad(known)
    model = ["--model", tiny_folder, "--min-genes", "1"]
    code, said, warned = run("index", known, index, "--column", "cell_type", "--column", "note", *model)
    kept = rf"{index}: 9 cells, \d\.\d MiB, with source, cell_type, note\n"
    assert (code, warned) == (0, "") and re.fullmatch(kept, said)
    texts = sorted(set(make_cells(num_cells=9, seed=1).obs["cell_type"]))
    where = [f"--where=cell_type={text}" for text in texts[:2]]
    code, said, warned = run("search", cells, index, out, "-k", "3", *where, *model)
    assert (code, said, warned) == (0, f"{out}: 36 cells found for 12\n", "")
    wanted = tl.search(cells, index, k=3, where={"cell_type": texts[:2]}, model=tiny_folder, min_genes=1)
    pd.testing.assert_frame_equal(
        pd.read_csv(out), wanted.astype({"source": str, "cell_type": str, "note": str}), check_dtype=False, atol=1e-4
    )
    with out.open() as written:
        header, row, *_ = csv.reader(written, quoting=csv.QUOTE_NONNUMERIC)
    assert isinstance(row[header.index("score")], float) and len(str(row[header.index("score")])) <= 7
    for arguments, words in (
        ([cells, index, out], f"error: {out} exists already"),
        ([cells, index, cells.with_name("hits.tsv")], "a name that ends in .csv is needed"),
        ([cells, index, out, "--overwrite", "--where", "lung"], "'lung' is not of the form COLUMN=TEXT"),
    ):
        code, _, said = run("search", *arguments, *model)
        assert code == 2 and words in said


def test_annotate_writes_what_tl_annotate_gives(
    run: Run, cells: Path, tiny_folder: Path, tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    known = cells.with_name("known.h5ad")
    make_cells(num_cells=30, seed=1).write_h5ad(known)
    out, model = cells.with_name("out.h5ad"), ["--model", tiny_folder]
    learning = ["--label-key", "cell_type", "--method", "knn"]
    code, said, warned = run("annotate", cells, out, "--reference", known, *learning, "--error-rate", "0.2", *model)
    assert (code, warned) == (0, "")
    wanted = tl.annotate(
        make_cells(), reference=known, label_key="cell_type", method="knn", error_rate=0.2, model=tiny_model
    )
    written = read_h5ad(out)
    pd.testing.assert_frame_equal(written.obs, wanted.obs)
    *labels, there, worth, _, _, _, _, _, calibrated, covered = said.splitlines()
    numbers = wanted.obs["xtrimogene_label"].value_counts()
    assert labels == [f"{number:>9,}  {label}" for label, number in numbers.items() if number]
    assert there == f"{out}: 12 cells, labels of 30 in obs['xtrimogene_label']"
    held_out = wanted.uns["xtrimogene_annotation"]["held_out"]
    assert [worth, calibrated, covered] == [
        line for line in held_out_lines(held_out, held_out_by="cell") if not line.startswith(" ")
    ]

    prefixed = cells.with_name("prefixed.h5ad")
    code, said, _ = run("annotate", cells, prefixed, "--reference", known, *learning, "--key-added", "X_kind", *model)
    assert code == 0 and "labels of 30 in obs['kind_label']" in said and "kind_label" in read_h5ad(prefixed).obs

    kept = tl.fit_annotator(known, cells.with_name("kept"), label_key="cell_type", method="knn", model=tiny_folder)
    again = cells.with_name("again.h5ad")
    assert run("annotate", cells, again, "--annotator", kept, "--error-rate", "0.2", *model)[0] == 0
    pd.testing.assert_frame_equal(read_h5ad(again).obs, wanted.obs)
    code, _, said = run("annotate", cells, cells.with_name("no.h5ad"), *model)
    assert (
        code == 2
        and said == "error: annotate needs reference= with label_key=, or annotator= without any option of learning.\n"
    )


def test_annotate_takes_candidates_and_markers(
    run: Run, cells: Path, tiny_folder: Path, tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    known, out = cells.with_name("known.h5ad"), cells.with_name("out.h5ad")
    make_cells(num_cells=60, seed=1).write_h5ad(known)
    learning = ["--reference", known, "--label-key", "cell_type", "--method", "match", "--no-baselines"]
    learning += ["--error-rate", "0.2", "--model", tiny_folder]
    first, second, third = tiny_model.genes.symbols[:3]
    kind = sorted(set(make_cells(num_cells=60, seed=1).obs["cell_type"]))[0]
    described = ["--marker", f" new = {first},{second} ", "--marker", f"other={third}"]
    code, _, warned = run("annotate", cells, out, *learning, *described, "--candidate", kind, "--candidate", "new")
    assert (code, warned) == (0, "")
    record = read_h5ad(out).uns["xtrimogene_annotation"]
    assert list(record["candidates"]) == [kind, "new"]
    assert list(record["described"]) == [f"new: {first}, {second}", f"other: {third}"]
    for wrong in ("new", "new=", "=CD3D", "new= , "):  # a label may hold "=", a gene does not
        code, _, said = run("annotate", cells, cells.with_name("no.h5ad"), *learning, "--marker", wrong)
        assert code == 2 and "a label and its genes are needed, such as Platelet=PPBP,PF4" in said


def test_map_writes_what_tl_map_to_reference_gives(
    run: Run, cells: Path, tiny_folder: Path, tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    known, out = cells.with_name("known.h5ad"), cells.with_name("out.h5ad")
    make_cells(num_cells=30, seed=1).write_h5ad(known)
    options = ["--label-key", "cell_type", "--no-baselines", "--no-umap", "--error-rate", "0.2", "--model", tiny_folder]
    code, said, warned = run("map", cells, known, out, *options)
    assert (code, warned) == (0, "")
    learning = {"label_key": "cell_type", "baselines": False, "umap": False, "error_rate": 0.2, "model": tiny_model}
    wanted, written = tl.map_to_reference(make_cells(), known, **learning), read_h5ad(out)
    pd.testing.assert_frame_equal(written.obs, wanted.obs)
    np.testing.assert_array_equal(written.obsm["X_xtrimogene"], wanted.obsm["X_xtrimogene"])
    *labels, there, worth, _, _ = said.splitlines()
    numbers = wanted.obs["xtrimogene_label"][30:].value_counts()
    assert labels == [f"{number:>9,}  {label}" for label, number in numbers.items() if number]
    assert there == f"{out}: 12 cells of the query on 30 of the reference, in obsm 'X_xtrimogene'"
    assert worth.startswith("Held out by cell: macro-F1")

    code, _, said = run("map", cells, known, known, *options, "--overwrite")
    assert code == 2 and said == f"error: OUT is the input {known}; name another file.\n"
    options[1] = "kind"
    code, _, said = run("map", cells, known, cells.with_name("no.h5ad"), *options)
    assert code == 2 and said == "error: the reference's obs has no 'kind', it has cell_type.\n"


def test_a_reference_is_not_written_over(run: Run, cells: Path, tiny_folder: Path) -> None:
    known = cells.parent / "known.h5ad"
    known.write_bytes(cells.read_bytes())
    learning = ("--reference", known, "--label-key", "cell_type", "--model", tiny_folder)
    code, _, said = run("annotate", cells, known, *learning, "--overwrite")
    assert code == 2 and said == f"error: OUT is the input {known}; name another file.\n"
    assert known.read_bytes() == cells.read_bytes()


def test_an_existing_file_is_kept_unless_told(run: Run, cells: Path, tiny_folder: Path) -> None:
    out = cells.parent / "out.h5ad"
    out.write_text("precious")
    code, _, said = run("embed", cells, out, "--model", tiny_folder)
    assert code == 2 and "exists already" in said and "--overwrite" in said and out.read_text() == "precious"
    assert run("embed", cells, out, "--model", tiny_folder, "--overwrite")[0] == 0
    assert read_h5ad(out).n_obs == 12


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("cells.h5ad", "OUT is the input"),
        ("out.csv", "ends in .h5ad"),
        ("no/such/out.h5ad", "does not exist"),
        ("folder.h5ad", "is a folder; name a file"),
        ("o" * 300 + ".h5ad", "File name too long"),
        ("/proc/out.h5ad", "cannot be written"),
    ],
)
def test_a_bad_target_is_refused_first(
    run: Run, cells: Path, tiny_folder: Path, out: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tl, "embed", None)
    if out == "folder.h5ad":
        (cells.parent / out).mkdir()
    before = cells.read_bytes()
    code, _, found = run("embed", cells, cells.parent / out, "--model", tiny_folder, "--overwrite")
    assert code == 2 and said in found and found.startswith("error: ")
    assert left_in(cells.parent) <= {"cells.h5ad", "folder.h5ad"} and cells.read_bytes() == before


def test_a_table_that_could_not_be_written_again_is_refused_first(
    run: Run, cells: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tl, "embed", None)
    with h5py.File(cells, "r+") as file:  # as Seurat's converter writes it
        file["obs/_index2"] = file["obs/_index"][:]
        file["obs"].move("_index", "names")
        file["obs"].move("_index2", "_index")
        file["obs"].attrs["_index"] = "names"
        file["obs"].attrs["column-order"] = [*file["obs"].attrs["column-order"], "_index"]
    code, _, said = run("embed", cells, cells.parent / "out.h5ad", "--model", tiny_folder)
    assert code == 2 and "cannot be written again" in said and "'_index' is a reserved name" in said, said
    assert left_in(cells.parent) == {"cells.h5ad"}


def test_a_name_that_the_disk_refuses_is_told(run: Run, cells: Path) -> None:
    code, _, said = run("embed", cells.parent / ("c" * 300 + ".h5ad"), cells.parent / "out.h5ad")
    assert code == 2 and said.startswith("error: ") and said.endswith(".h5ad: File name too long.\n")


@pytest.fixture
def many_genes(write_cells: Callable[..., str], tmp_path: Path) -> list[str]:
    return [write_cells(tmp_path / f"{name}.h5ad", 30, seed) for seed, name in enumerate(["a", "b" * 90])]


def test_a_store_is_built_and_described(run: Run, many_genes: list[str], tmp_path: Path) -> None:
    out = tmp_path / "cells.zarr"
    options = ["--donor-key", "donor", "--batch-key", "batch", "--seed", "3", "--memory", "1"]
    code, said, warned = run("store", "build", *many_genes, out, *options)
    assert (code, warned) == (0, "")
    assert run("store", "info", out) == (0, said, "")
    first, second, _, head, *rows = said.splitlines()
    assert re.fullmatch(re.escape(str(out)) + r": 60 cells x 20,092 genes, \d+\.\d MB", first)
    assert "seed 3" in second and head.split() == ["file", "cells", "left", "out", "genes", "donors", "batches"]
    assert rows[0].split()[:3] == ["a.h5ad", "30", "0"] and rows[0].split()[4:] == ["3", "2"]
    assert max(map(len, [second, head, *rows])) <= 80
    assert left_in(tmp_path) == {*(Path(file).name for file in many_genes), "cells.zarr"}


@pytest.mark.parametrize(
    ("files", "out", "options", "said"),
    [
        (["a.h5ad"], "cells.h5ad", [], "a name that ends in .zarr is needed"),
        (["a.h5ad"], "no/such/cells.zarr", [], "no/such does not exist; make it"),
        (["a.h5ad"], "o" * 300 + ".zarr", [], "File name too long"),
        (["a.h5ad", "a.h5ad"], "cells.zarr", [], "a.h5ad is given twice"),
        (["a.h5ad", "copy.h5ad"], "cells.zarr", [], "are the same to the byte"),
        (["a.h5ad", "missing.h5ad"], "cells.zarr", [], "missing.h5ad does not exist"),
        (["a.h5ad"], "cells.zarr", ["--donor-key", "patient"], "no obs column 'patient'; it has donor, batch"),
        (["a.h5ad"], "cells.zarr", ["--min-genes", "5000"], "No cell has 5000 expressed genes"),
        (["a.h5ad"], "cells.zarr", ["--min-genes", "0"], "min_genes=0 must be at least 1"),
        (["a.h5ad"], "cells.zarr", ["--memory", "0"], "memory=0.0 GB is too little to work with"),
    ],
)
def test_a_store_that_cannot_be_built_leaves_nothing(
    run: Run, many_genes: list[str], tmp_path: Path, files: list[str], out: str, options: list[str], said: str
) -> None:
    shutil.copy(many_genes[0], tmp_path / "copy.h5ad")
    before = left_in(tmp_path)
    code, _, found = run("store", "build", *(tmp_path / file for file in files), tmp_path / out, *options)
    assert code == 2 and said in found and found.startswith("error: ") and found.count("\n") == 1
    assert left_in(tmp_path) == before


def test_what_is_no_store_is_told(run: Run, many_genes: list[str]) -> None:
    code, _, said = run("store", "info", many_genes[0])
    assert (code, said.count("\n")) == (2, 1) and "is no cell store; give the folder" in said


def test_a_full_disk_leaves_nothing(run: Run, cells: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: AnnData, place: Path, **options: object) -> None:
        Path(place).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AnnData, "write_h5ad", fail)
    code, _, said = run("embed", cells, cells.parent / "out.h5ad", "--model", tiny_folder)
    assert code == 2 and "No space left on device" in said
    assert left_in(cells.parent) == {"cells.h5ad"}


def test_ctrl_c_exits_130_and_leaves_nothing(
    run: Run, cells: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: AnnData, place: Path, **options: object) -> None:
        Path(place).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(AnnData, "write_h5ad", stop)
    code, out, said = run("embed", cells, cells.parent / "out.h5ad", "--model", tiny_folder)
    assert (code, out) == (130, "") and "Traceback" not in said
    assert left_in(cells.parent) == {"cells.h5ad"}


@pytest.mark.slow
def test_ctrl_c_of_a_real_process(make_cells: MakeCells, tiny_folder: Path, tmp_path: Path) -> None:
    make_cells(4000).write_h5ad(tmp_path / "cells.h5ad")
    command = ["embed", "cells.h5ad", "out.h5ad", "--model", str(tiny_folder), "--token-budget", "1"]
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a background job is deaf to it
    process = subprocess.Popen(
        [sys.executable, "-c", f"{hear}; from xtrimogene.cli import main; main()", *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while process.poll() is None and "libtorch_cpu" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert left_in(tmp_path) == {"cells.h5ad"}


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_line(run: Run, make_cells: MakeCells, tmp_path: Path, tiny_folder: Path) -> None:
    cells = make_cells()
    cells.var_names = [f"LINC{9000 + gene}" if gene < 120 else name for gene, name in enumerate(cells.var_names)]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    code, _, said = run("embed", tmp_path / "cells.h5ad", tmp_path / "out.h5ad", "--model", tiny_folder)
    assert code == 0 and said.startswith("warning: ") and "below 80 %" in said and "UserWarning" not in said


def test_check_prints_the_report(run: Run, cells: Path, tiny_folder: Path) -> None:
    code, out, said = run("check", cells, "--model", tiny_folder)
    assert (code, said) == (0, "")
    assert "12 in cells.h5ad" in out and "about" in out and max(map(len, out.splitlines())) <= 80


def test_check_of_what_cannot_be_embedded_reports_and_exits_2(
    run: Run, make_cells: MakeCells, tmp_path: Path, tiny_folder: Path
) -> None:
    cells = make_cells()
    cells.X = cells.X * np.float32(0.37)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    code, out, said = run("check", tmp_path / "cells.h5ad", "--model", tiny_folder)
    assert code == 2 and "neither counts nor log1p" in said and "400 genes" in out


def test_usage_errors_exit_2(run: Run) -> None:
    assert run("embed")[0] == run("embed", "a", "b", "--pool", "median")[0] == run("no-such-command")[0] == 2


def test_plan_answers_for_a_preset_and_for_a_run(run: Run, tmp_path: Path) -> None:
    code, out, said = run("plan", "--preset", "3M", "--cells", 20_000, "--expressed", 900, "--batch-size", 8)
    assert (code, said) == (0, "") and max(map(len, out.splitlines())) <= 80
    assert (
        out.startswith("fits    yes: ")
        and "20,000 cells, 900 genes" in out
        and "2,500 steps of 8 cells, 1 epoch" in out
    )
    (tmp_path / "run.toml").write_text('files = ["cells.h5ad"]\noutput = "out"\npreset = "demo"\nnum_steps = 7\n')
    options = ["--cells", 64, "--device", "cpu-core", "--memory", 0.2, "--utilisation", 0.2, "--devices", 2]
    code, out, _ = run("plan", tmp_path / "run.toml", *options)
    assert (
        code == 0
        and "NO: " in out
        and "2 x CPU-core, if 20 %" in out
        and "7 steps of 64 cells, 7 epochs" in out
        and "8 lanes, 4 on each of 2 devices" in " ".join(out.split())
    )


def test_plan_reads_files(run: Run, cells: Path) -> None:
    code, _, said = run("plan", "--preset", "3M", "--data", cells)
    assert code == 2 and "No cell has 200 expressed genes" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "Give either a run's CONFIG.toml or --preset"),
        (["run.toml", "--preset", "3M"], "Give either a run's CONFIG.toml or --preset"),
        (["--preset", "3M"], "says nothing of the cells"),
        (["--preset", "3M", "--cells", 0], "num_cells=0 must be at least 1"),
        (["--preset", "3M", "--cells", 5, "--data", "a.h5ad"], "give one of the two"),
        (["none.toml"], "No file"),
        (["--preset", "3M", "--cells", 9, "--lanes", 4, "--devices", 3], "3 devices cannot share sampling.num_lanes=4"),
    ],
)
def test_plan_says_what_it_lacks(run: Run, options: list[object], said: str) -> None:
    code, out, found = run("plan", *options)
    assert (code, out) == (2, "") and said in found and found.count("\n") == 1


def test_pretrain_says_what_its_config_lacks(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('files = ["cells.h5ad"]\n')
    code, _, said = run("pretrain", tmp_path / "run.toml")
    assert code == 2 and "`output` is missing" in said
    code, _, said = run("pretrain", tmp_path / "none.toml")
    assert code == 2 and "No file" in said


def test_pretrain_takes_seed_output_and_machines_beside_the_config(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.toml").write_text('files = ["cells.h5ad"]\noutput = "first"\nseed = 5\n')
    runs: list[PretrainConfig] = []
    machines: list[dict[str, object]] = []

    def train(config: PretrainConfig, **machine: object) -> None:
        runs.append(config)
        machines.append(machine)

    monkeypatch.setattr("xtrimogene.training.run.pretrain", train)
    run("pretrain", tmp_path / "run.toml", "--devices", 4, "--nodes", 2, "--workers", 1, "--strategy", "fsdp")
    code, said, _ = run("pretrain", tmp_path / "run.toml", "--seed", 0, "--output", tmp_path / "second")
    assert machines[0] == {"num_devices": 4, "num_nodes": 2, "num_workers": 1, "strategy": "fsdp"}
    assert machines[1] == {"num_devices": 1, "num_nodes": 1, "num_workers": 0, "strategy": "ddp"}
    assert code == 0 and f"{tmp_path / 'second' / 'model'}: trained" in said
    assert [(one.seed, one.output) for one in runs] == [(5, str(tmp_path / "first")), (0, str(tmp_path / "second"))]
    code, _, said = run("pretrain", tmp_path / "run.toml", "--seed", -1)
    assert code == 2 and "seed=-1 must not be negative" in said


@pytest.fixture
def study(make_cells: MakeCells, tiny_folder: Path, tmp_path: Path) -> Path:
    make_cells(num_cells=40).write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "study.toml").write_text(
        f'files = ["cells.h5ad"]\nlabel_key = "cell_type"\nsplit = "cell"\nnum_folds = 2\noutput = "report"\n'
        f'model = "{tiny_folder}"\nmin_genes = 1\nmethods = ["linear"]\noutside = []\nseeds = [0]\nstrengths = [0.1]\n'
        'baselines = ["majority", "all_genes"]\n'
    )
    return tmp_path / "study.toml"


def test_a_study_ends_with_its_verdict(run: Run, study: Path) -> None:
    code, out, _ = run("evaluate", "annotation", study)
    report = study.parent / "report"
    assert code == 0 and out.startswith(f"{report / 'report.md'}: cells by cell, 40 test cells")
    assert max(map(len, out.splitlines()[1:])) <= 80 and "Split by cell, as asked for" in out
    verdict = re.sub(r"\s+", " ", out[out.rindex("Verdict: ") :]).strip()
    written = verdict.removeprefix("Verdict: ").replace("*", "\\*")
    assert (report / "report.md").read_text().endswith(f"{written}\n")
    code, out, err = run("evaluate", "annotation", study)
    assert code == 2 and not out and err.startswith("error: ") and "report" in err, "before any cell is embedded"
    assert run("evaluate", "annotation", study, "--output", study.parent / "other")[0] == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('split = "cell"', "", "nothing says what is kept apart"),
        ('"cell_type"', '"kind"', "cells's obs has no 'kind'"),
        ("num_folds = 2", "num_fold = 2", "unknown setting 'num_fold'"),
        ('["linear"]', '["forest"]', "method='forest' is not one of"),
        ('"cells.h5ad"', '"none.h5ad"', "none.h5ad"),
    ],
)
def test_a_study_that_cannot_be_run_is_told_in_one_line(run: Run, study: Path, old: str, new: str, said: str) -> None:
    study.write_text(study.read_text().replace(old, new))
    code, out, err = run("evaluate", "annotation", study)
    assert code == 2 and not out and said in err and err.startswith("error: ") and err.count("\n") == 1
    assert left_in(study.parent) == {"study.toml", "cells.h5ad"}
