"""What computes with a model in its own process, called here in ours."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from scipy.sparse import csr_matrix

from xtrimogene.errors import CheckpointError
from xtrimogene.serving.served_model import Labels, ServedModel, build_model
from xtrimogene.tl import annotate


def test_an_annotator_is_read_once(tiny_folder: Path, annotator: Path, make_cells: Any, tmp_path: Path) -> None:
    place = shutil.copytree(annotator, tmp_path / "types")
    handle = build_model(ServedModel(name="small", place=str(tiny_folder), annotators={"types": str(place)}))
    shutil.rmtree(place)
    cells = make_cells(5)
    offline = annotate(cells.copy(), annotator=annotator, model=tiny_folder, progress=False)
    for _ in range(2):
        answer = handle((Labels(cells=cells.copy(), annotator="types", options={}), csr_matrix(cells.X)))
        assert answer.columns["label"].tolist() == offline.obs["xtrimogene_label"].tolist()
        assert answer.columns["confidence"].tolist() == offline.obs["xtrimogene_confidence"].tolist()


def test_an_annotator_that_is_none_is_refused_at_the_start(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no annotator at"):
        build_model(ServedModel(name="small", place=str(tiny_folder), annotators={"types": str(tmp_path / "none")}))
