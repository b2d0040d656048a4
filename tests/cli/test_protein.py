"""Commands of protein models, from a table of runs to a plan and from sequences to what a model says of them."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from xtrimogene.protein.network.checkpoint import load_protein_model
from xtrimogene.protein.variants.scores import score_variants

Run = Callable[..., tuple[int, str, str]]
WILD_TYPE = "MKTAYIAKQRQISFVKSHFSRQ"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Write runs that a law with a known answer gives, N = .01 C^.5."""
    rows = [
        {"objective": objective, "C": flops, "N": size, "L": 2 + 0.01 * np.log(size / (0.01 * flops**0.5)) ** 2}
        for objective in ("MLM", "CLM")
        for flops in (1e18, 1e19, 1e20)
        for size in np.geomspace(0.001, 0.1, 7) * flops**0.5
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path / "runs.csv"


def trained(run: Run, folder: Path, objective: str) -> Path:
    """Pre-train a tiny model and return its folder."""
    (folder / "train.fasta").write_text(f">a\n{WILD_TYPE}\n>b\n{WILD_TYPE[::-1]}\n")
    (folder / f"{objective}.toml").write_text(
        f'files = ["train.fasta"]\nvalidation_files = ["train.fasta"]\noutput = "{objective}"\ntokens_per_step = 64\n'
        f"[[stages]]\nnum_steps = 2\n{objective} = 1.0\n"
        "[model]\ndim = 16\nnum_layers = 1\nnum_heads = 2\nmax_length = 32\n"
    )
    code, said, _ = run("protein", "pretrain", folder / f"{objective}.toml")
    assert code == 0
    assert said.startswith(f"{folder / objective / 'model'}: trained; held out: {objective}_loss ")
    return folder / objective / "model"


def test_plan_prints_and_writes(run: Run, tmp_path: Path) -> None:
    code, said, _ = run("protein", "plan", "--flops", "1.68e22", "--out", tmp_path / "plan.json")
    assert code == 0 and said.startswith("train   one model, MLM: 10.8 billion parameters")
    assert max(map(len, said.splitlines())) <= 80
    assert json.loads((tmp_path / "plan.json").read_text())["num_parameters"] == pytest.approx(10.78e9, rel=1e-3)
    code, said, error = run("protein", "plan")
    assert (code, said) == (2, "") and error.startswith("error: one budget is needed")


def test_a_law_is_fitted_and_planned_with(run: Run, runs: Path, tmp_path: Path) -> None:
    columns = ["--flops", "C", "--num-parameters", "N", "--loss", "L", "--where", "objective=MLM"]
    code, said, _ = run("protein", "fit", runs, "--out", tmp_path / "law.json", "--objective", "mlm", *columns)
    assert code == 0 and "21 runs" in said and "N = 0.01 C^0.5 " in said
    code, said, _ = run("protein", "plan", "--flops", "1e20", "--law", tmp_path / "law.json")
    assert code == 0 and "100 million parameters" in said
    code, _, error = run("protein", "fit", runs, "--out", tmp_path / "law.json", "--objective", "mlm", *columns)
    assert code == 2 and "exists already" in error


def test_a_parametric_law_says_whether_it_is_identified(run: Run, runs: Path, tmp_path: Path) -> None:
    options = ["--objective", "clm", "--method", "parametric", "--flops", "C", "--num-parameters", "N", "--loss", "L"]
    code, said, _ = run("protein", "fit", runs, "--out", tmp_path / "law.json", *options, "--where", "objective=CLM")
    assert code == 0 and "condition number" in said
    code, _, error = run("protein", "fit", runs, "--out", tmp_path / "other.json", *options, "--where", "objective")
    assert code == 2 and "COLUMN=TEXT" in error


def test_proteins_are_embedded_scored_and_made(run: Run, tmp_path: Path) -> None:
    mlm, clm = trained(run, tmp_path, "mlm"), trained(run, tmp_path, "clm")
    (tmp_path / "wild.fasta").write_text(f">wild\n{WILD_TYPE}\n")
    code, said, _ = run("protein", "embed", tmp_path / "train.fasta", tmp_path / "vectors.h5", "--model", mlm)
    assert (code, said) == (0, f"{tmp_path / 'vectors.h5'}: 2 proteins, 44 residues, 16 wide\n")
    with h5py.File(tmp_path / "vectors.h5") as file:
        assert file["vectors"].shape == (2, 16)

    variants = pd.DataFrame({"mutant": ["A4G", "K2R:T3S"], "measured": [0.5, 1.5]})
    variants.to_csv(tmp_path / "variants.csv", index=False)
    files = [tmp_path / "wild.fasta", tmp_path / "variants.csv", tmp_path / "scores.csv"]
    code, said, _ = run("protein", "score", *files, "--model", mlm)
    assert code == 0 and said.startswith(f"{tmp_path / 'scores.csv'}: 2 variants, scores of ")
    written = pd.read_csv(tmp_path / "scores.csv")
    assert list(written.columns) == ["mutant", "measured", "score"]
    wanted = score_variants(load_protein_model(mlm), WILD_TYPE, variants["mutant"].tolist())
    np.testing.assert_allclose(written["score"], wanted, rtol=1e-4)
    code, _, error = run("protein", "score", *files, "--model", clm, "--overwrite")
    assert code == 2 and "needs a model that was trained by mlm" in error

    made = tmp_path / "made.fasta"
    code, said, _ = run("protein", "generate", made, "--model", clm, "--prefix", "MKT", "-n", 3, "--max-length", 9)
    assert code == 0 and said.startswith(f"{made}: 3 proteins of ")
    lines = made.read_text().splitlines()
    assert [line[:3] for line in lines[1::2]] == ["MKT"] * 3
    ends = ["cut" if len(line) == 9 else "ended" for line in lines[1::2]]
    assert lines[::2] == [f">generated_{i} seed=0 {end}" for i, end in enumerate(ends, 1)]
    code, said, _ = run("protein", "generate", tmp_path / "long.fasta", "--model", clm, "--device", "cpu", "-n", 9)
    assert code == 0 and all(0 < len(line) <= 31 for line in (tmp_path / "long.fasta").read_text().splitlines()[1::2])
    code, _, error = run("protein", "generate", tmp_path / "gap.fasta", "--model", clm, "--prefix", "MK_T")
    assert code == 2 and "filling a gap needs a model that was trained by span" in error


@pytest.mark.parametrize(("name", "separator"), [("variants.CSV", ","), ("variants.tsv", "\t")])
def test_a_table_is_left_as_it_was(run: Run, tmp_path: Path, name: str, separator: str) -> None:
    model, wild, table, out = trained(run, tmp_path, "mlm"), *(tmp_path / one for one in ("w.fasta", name, "out.csv"))
    wild.write_text(f">wild\n{WILD_TYPE.lower()}\n")
    rows = ["id,mutant,measured,note", "007,A4G,0.10,NA", "1e5,k2r,1234567.891,", '08,K2R,,"a,b"']
    table.write_text("\n".join(rows).replace(",", separator) + "\n")
    options = ["--model", model, "--to-upper", "--window", 16]
    code, _, error = run("protein", "score", wild, table, out, *options, "--score-column", "note")
    assert code == 2 and "has a column 'note' already; name another by --score-column" in error
    code, *_ = run("protein", "score", wild, table, out, *options, "--score-column", "mine")
    assert code == 0
    written = pd.read_csv(out, dtype=str, keep_default_na=False)
    assert list(written.columns) == ["id", "mutant", "measured", "note", "mine"]
    assert written.iloc[:, :4].to_numpy().tolist() == [
        ["007", "A4G", "0.10", "NA"],
        ["1e5", "k2r", "1234567.891", ""],
        ["08", "K2R", "", f"a{separator}b"],
    ]
    wanted = score_variants(load_protein_model(model), WILD_TYPE, ["A4G", "K2R", "K2R"], window=16)
    np.testing.assert_allclose(written["mine"].astype(float), wanted, rtol=1e-4)


def test_tables_of_variants_that_are_none_are_refused(run: Run, tmp_path: Path) -> None:
    model = trained(run, tmp_path, "mlm")
    wild, table = tmp_path / "wild.fasta", tmp_path / "variants.csv"
    wild.write_text(f">wild\n{WILD_TYPE}\n")
    for text, said in (
        ("variant\nA4G\n", "no column 'mutant'; the columns are variant"),
        ("mutant,x\nA4G,1\n,2\n", "line 3 of"),
        ("mutant\n", "holds no variant"),
        ("mutant\nA5G\n", "A5G"),
        ("mutant,x\nA4G,1,2\n", "have more fields than its header"),
        ("mutant,score\nA4G,1\n", "has a column 'score' already; name another by --score-column"),
    ):
        table.write_text(text)
        code, _, error = run("protein", "score", wild, table, tmp_path / "out.csv", "--model", model)
        assert code == 2 and said in error and error.count("\n") == 1
    wild.write_text(f">a\n{WILD_TYPE}\n>b\n{WILD_TYPE}\n")
    code, _, error = run("protein", "score", wild, table, tmp_path / "out.csv", "--model", model)
    assert code == 2 and "holds 2 proteins" in error
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.shared
def test_the_released_runs_give_a_law_near_the_published_one(run: Run, shared: Path, tmp_path: Path) -> None:
    table = shared / "data" / "protein" / "isoflop_points.csv"
    columns = ["--flops", "budget_flops", "--num-parameters", "N_params", "--loss", "final_validation_loss"]
    given = [table, "--objective", "mlm", *columns, "--where", "objective=MLM"]
    code, said, _ = run("protein", "fit", *given, "--out", tmp_path / "a.json")
    assert code == 0 and "C^0.749" in said
    published = ["--minimum", "raw", "--least-squares", "linear"]
    code, said, _ = run("protein", "fit", *given, *published, "--out", tmp_path / "b.json")
    assert code == 0 and "N = 6.1945e-08 C^0.77572" in said
    code, _, error = run("protein", "fit", *given, *published, "--method", "parametric", "--out", tmp_path / "c.json")
    assert code == 2 and "--minimum is of --method isoflop" in error
