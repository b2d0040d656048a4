"""What is published is what the scripts write from the JSON."""

import importlib
import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
SETS = ("test", "validation")


@pytest.mark.parametrize(
    ("script", "sources", "written"),
    [
        ("synergy_report", ["synergy.json"], "synergy.md"),
        ("gene_network_note", ["gene_network.json", "gene_modules.json"], "gene_network.md"),
        (
            "annotation_report",
            [f"{one}_{sets}.json" for one in ("annotation", "novelty", "fine_tuning", "demo") for sets in SETS],
            "annotation.md",
        ),
    ],
)
def test_the_note_is_what_the_script_writes(
    script: str, sources: list[str], written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(RESULTS.parent))
    module = importlib.import_module(script)
    for source in sources:
        (tmp_path / source).write_text((RESULTS / source).read_text())
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    module.main()
    assert (tmp_path / written).read_text() == (RESULTS / written).read_text()


def test_the_table_of_denoising_is_what_the_script_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RESULTS.parent))
    report = importlib.import_module("denoising_report")
    table = json.loads((RESULTS / "denoising.json").read_text())
    assert (RESULTS / "denoising.md").read_text() == report.to_text(table) + "\n"


def test_the_table_of_labels_is_in_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RESULTS.parent))
    table = importlib.import_module("annotation_report").readme_table()
    assert "\n".join(table) in (RESULTS.parents[1] / "README.md").read_text()
