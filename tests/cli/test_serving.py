import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xtrimogene.cli.app import main
from xtrimogene.serving import Limits, ServedModel


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what `serve` was asked for instead of serving."""
    calls: list[Any] = []
    monkeypatch.setattr("xtrimogene.serving.server.serve", lambda models, **options: calls.append((models, options)))
    return calls


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


def test_models_and_their_annotators_have_names(asked: list[Any]) -> None:
    run("serve", "demo", "big=/models/big", "--annotator", "blood=a", "--annotator", "big/lung=b", "--max-cells", "7")
    ((models, options),) = asked
    assert models == [
        ServedModel(name="demo", place="demo", annotators={"blood": "a"}),
        ServedModel(name="big", place="/models/big", annotators={"lung": "b"}),
    ]
    assert options["limits"] == Limits(max_cells=7)
    assert options["host"] == "127.0.0.1"


def test_a_folder_that_is_there_is_taken_as_it_is(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "runs" / "lr=0.1" / "model"
    place.mkdir(parents=True)
    (tmp_path / "latest").symlink_to(place)
    monkeypatch.chdir(place)
    run("serve", ".", "..", str(tmp_path / "latest"), "lr=..", "hf://lab/atlas@v1")
    ((models, _),) = asked
    assert [(model.name, model.place) for model in models] == [
        ("model", "."),
        ("lr=0.1", ".."),
        ("latest", str(tmp_path / "latest")),
        ("lr", ".."),
        ("hf://lab/atlas@v1", "hf://lab/atlas@v1"),
    ]
    monkeypatch.chdir(tmp_path)
    run("serve", "runs/lr=0.1/model")
    assert asked[1][0] == [ServedModel(name="model", place="runs/lr=0.1/model")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("demo", "x/demo"), "same name"),
        (("demo", "--max-body", "513"), "no place even alone"),
        (("=demo",), "name='' cannot stand"),
        (("..=demo",), "name='..' cannot stand"),
        (("/",), "name='' cannot stand"),
        (("demo", "--annotator", "blood"), "not of the form"),
        (("demo", "--annotator", "other/blood=x"), "a model that is served: demo"),
    ],
)
def test_what_cannot_be_is_refused(
    asked: list[Any], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(("serve", *arguments))
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
    assert not asked


def test_without_arrow_the_extra_is_named() -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from xtrimogene.cli import main; main(['serve', 'demo'])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "pip install 'xtrimogene[serve]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_others_cannot_reach_it_without_tokens(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments in (("--host", "0.0.0.0"), ("--tokens", str(tmp_path / "none"))):
        with pytest.raises(SystemExit) as ended:
            main(("serve", "demo", *arguments))
        assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "tokens are needed" in told
    assert "cannot be read" in told
