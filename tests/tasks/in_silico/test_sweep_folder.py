"""A folder of another sweep, of something else or with a damaged part is refused."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from xtrimogene.errors import ConfigError, FileFormatError
from xtrimogene.tasks.in_silico.sweep_folder import SweepFolder


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    SweepFolder(tmp_path / "sweep", {"level": "q0.95", "edits": [["knock-out", "A"]]})
    SweepFolder(tmp_path / "sweep", {"level": "q0.95", "edits": [["knock-out", "A"]]})
    with pytest.raises(ConfigError, match=r"with level=\"q0.95\" and not \"f10\""):
        SweepFolder(tmp_path / "sweep", {"level": "f10", "edits": [["knock-out", "A"]]})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds 'notes.txt' and no sweep of edits"):
        SweepFolder(tmp_path / "full", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        SweepFolder(tmp_path / "file", {})
    folder = SweepFolder(tmp_path / "new", {})
    folder.write(0, {"x": np.zeros(2)})
    (tmp_path / "new" / "part-00000.safetensors").write_bytes(b"half")
    with pytest.raises(FileFormatError, match="remove it"):
        folder.read(0)
    folder.write(0, {"x": np.zeros(2)})
    np.testing.assert_array_equal(folder.read(0)["x"], np.zeros(2))
    (tmp_path / "new" / "part-00000.safetensors").write_bytes(save({"x": np.ones(2)}))
    with pytest.raises(FileFormatError, match="is not what was written there; remove it"):
        folder.read(0)
