"""`pp.check`: it says what is there, what would be used, and what it costs."""

import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

import xtrimogene as xt
from xtrimogene import pp
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.cell_hashes import gene_keys, hash_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import FileFormatError
from xtrimogene.inference import Inference

MakeCells = Callable[..., AnnData]


def rows(text: str) -> dict[str, str]:
    """The report as a dictionary; continuation lines are joined."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        assert len(line) <= 80, line
        name, rest = line[:10].strip(), line[11:]
        if name:
            found[name] = rest
        else:
            found[list(found)[-1]] += f" {rest.strip()}"
    return found


def test_counts(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells()
    before = cells.copy()
    report = xt.pp.check(cells, tiny_model)
    found = rows(str(report))
    assert report.problem is None and report.choice is not None and report.choice.matrix == "X"
    assert found["cells"] == "12 in AnnData"
    assert found["X"] == f"400 genes; counts up to {cells.X.max():.0f}"
    assert found["model"] == "tiny, 400 genes"
    assert found["genes"].startswith("400 of the model's 400") and found["counts"] == "100 % matched"
    assert found["unreadable"] == "none of the cells"
    assert "on cpu, by 12 cells" in found["time"]
    assert re.fullmatch(r"about \d+\.\d GB, the program and the result together", found["memory"])
    assert report.cost is not None and report.cost.memory is not None and report.cost.memory > 1e8
    np.testing.assert_array_equal(cells.X.toarray(), before.X.toarray())
    assert not cells.obsm and not cells.uns
    with pytest.raises(FrozenInstanceError):
        report.problem = "none"  # type: ignore[misc]


def test_every_matrix_is_described(tiny_model: PretrainedModel, make_cells: MakeCells, tmp_path: Path) -> None:
    cells = make_cells(40)
    cells.raw = cells.copy()
    dense = cells.X.toarray()
    logged = np.log1p(dense * 1e4 / dense.sum(axis=1, keepdims=True)).astype(np.float32)
    cells.layers["logcounts"] = csr_matrix(logged)
    cells.X = (logged - logged.mean(0)) / (logged.std(0) + 0.1)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    report = xt.pp.check(tmp_path / "cells.h5ad", tiny_model)
    said = {matrix.name: matrix.holds for matrix in report.matrices}
    assert "a negative value" in said["X"] and "scaled" in said["X"]
    assert said["layers/logcounts"] == "log1p of counts scaled to 10,000 per cell"
    assert said["raw/X"].startswith("counts up to")
    assert report.choice is not None and report.choice.matrix == "raw/X"
    assert report.cost is not None and report.cost.num_probed == 40
    assert "cells.h5ad" in str(report) and "layers/logcounts " in str(report)


def test_what_cannot_be_embedded_is_a_problem_and_no_exception(
    tiny_model: PretrainedModel, make_cells: MakeCells
) -> None:
    cells = make_cells()
    cells.X = csr_matrix(cells.X.toarray() * 0.37)
    report = xt.pp.check(cells, tiny_model)
    assert report.problem is not None and report.choice is None and report.cost is None
    assert "neither counts nor log1p" in rows(str(report))["problem"]
    assert "problem" not in report.findings


def test_genes_of_a_mouse_are_a_problem_with_the_report(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells()
    cells.var_names = [name.capitalize() for name in cells.var_names]
    report = xt.pp.check(cells, tiny_model)
    assert report.problem is not None and "mouse" in report.problem
    assert report.genes is not None and report.genes.num_matched_genes < 200
    rows(str(report))


def test_notes_and_unreadable_cells(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells()
    dense = cells.X.toarray()
    dense[3] = 0
    cells.X = csr_matrix(dense)
    cells.var_names = [f"LINC{9000 + gene}" if gene < 120 else name for gene, name in enumerate(cells.var_names)]
    found = rows(str(xt.pp.check(cells, tiny_model)))
    assert found["unreadable"].startswith("1 of the cells")
    assert "below 80 %" in found["note"]


def test_the_cost_grows_with_the_cells(
    tiny_model: PretrainedModel, make_cells: MakeCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, embed = [0.0], Inference.cell_embeddings

    def slowly(self: Inference, counts: csr_matrix, **options: object) -> np.ndarray:
        now[0] += 0.01 * counts.shape[0]
        return embed(self, counts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Inference, "cell_embeddings", slowly)
    monkeypatch.setattr(pp.time, "perf_counter", lambda: now[0])  # a clock of ours: a busy machine changes nothing
    few, many = (xt.pp.check(make_cells(number), tiny_model).cost for number in (300, 6000))
    assert few is not None and many is not None and many.num_probed <= 300
    assert many.seconds > 4 * few.seconds
    assert (few.seconds, many.seconds) == (pytest.approx(3), pytest.approx(60))


def test_a_damaged_file_is_an_exception(tiny_model: PretrainedModel, tmp_path: Path) -> None:
    (tmp_path / "cells.h5ad").write_bytes(b"")
    with pytest.raises(FileFormatError, match="empty"):
        xt.pp.check(tmp_path / "cells.h5ad", tiny_model)


def test_cells_that_the_model_was_trained_on_are_said(tiny_model: PretrainedModel, make_cells: MakeCells) -> None:
    cells = make_cells(20)
    assert "seen" not in rows(xt.pp.check(cells, tiny_model).findings), "it is not known"
    with open_cells(cells[:5].copy()) as some:
        hashes = hash_cells(MatchedCounts.find(some, tiny_model.genes).all(), gene_keys(tiny_model.genes))
    trained = replace(tiny_model, cell_hashes=np.sort(hashes))
    report = xt.pp.check(cells, trained)
    assert (report.num_compared, report.num_seen) == (20, 5)
    assert rows(report.findings)["seen"].startswith("5 of 20 cells compared are in the data")
    assert rows(xt.pp.check(cells[5:].copy(), trained).findings)["seen"].startswith("none of 15 cells compared")
    taken = xt.pp.check(cells[5:].copy(), trained, input_kind="log1p")
    assert taken.num_compared == 0, "values taken as they are cannot be recognized"
