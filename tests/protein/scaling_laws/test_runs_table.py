"""Tables of runs: which columns are read, what follows from the others, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from xtrimogene.errors import ConfigError, FileFormatError
from xtrimogene.protein.scaling_laws.runs_table import read_runs


def write(folder: Path, text: str) -> Path:
    (folder / "runs.csv").write_text(text)
    return folder / "runs.csv"


def test_tokens_follow_from_compute_and_size(tmp_path: Path) -> None:
    table = write(tmp_path, "objective,C,N,L\nCLM,6e18,1e6,2.5\nMLM,6e18,2e6,2.4\nMLM,6e19,3e6,2.2\n")
    runs = read_runs(table, flops="C", num_parameters="N", loss="L", where={"objective": ["MLM"]})
    np.testing.assert_allclose(runs.num_tokens, [5e11, 6e19 / 18e6])
    np.testing.assert_allclose(runs.loss, [2.4, 2.2])


def test_compute_follows_from_size_and_tokens(tmp_path: Path) -> None:
    runs = read_runs(write(tmp_path, "num_parameters,num_tokens,loss\n1000000,1e9,2.5\n"))
    np.testing.assert_allclose(runs.flops, [6e15])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("num_parameters,num_tokens,loss\n70,1e9,2\n", "num_parameters is 70 at most"),
        ("flops,num_parameters,num_tokens,loss\n1e18,1e6,1e9,2\n", "is 0.006 to 0.006 times flops"),
        ("flops,num_parameters\n1,1\n", "no column 'loss'; the columns are flops, num_parameters"),
        ("num_parameters,loss\n1,1\n", "'flops' or 'num_tokens' is needed"),
        ("flops,num_parameters,loss\n1,1,2\n1,-1,2\n", "line 3: num_parameters is '-1'"),
        ("flops,num_parameters,loss\n1,1,much\n", "line 2: loss is 'much'"),
        ("", "is not CSV"),
    ],
)
def test_what_is_no_table_of_runs_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises((ConfigError, FileFormatError)) as error:
        read_runs(write(tmp_path, text))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_missing_files_and_rows_are_said(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="No file"):
        read_runs(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="no row has 'GLM' in the column 'objective'"):
        read_runs(write(tmp_path, "objective,flops,num_parameters,loss\nMLM,1,1,1\n"), where={"objective": ["GLM"]})


def test_points_keep_their_runs(tmp_path: Path) -> None:
    table = write(tmp_path, "flops,num_parameters,loss,curve\n6e18,1e6,2.5,a\n6e18,2e6,2.4,7\n")
    runs = read_runs(table, run="curve")
    assert runs.run is not None and runs.run.tolist() == ["a", "7"]
    with pytest.raises(ConfigError, match="no column 'name'"):
        read_runs(table, run="name")
