"""What computes with a model in its own process, called here in ours."""

import asyncio
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.sparse import csr_matrix

from xtrimogene.checkpoint import PretrainedModel, save
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import CheckpointError, ServiceError
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.serving.limits import Limits
from xtrimogene.serving.reader import Matched, Unread
from xtrimogene.serving.served_model import Labels, ServedModel, build_model
from xtrimogene.serving.service import Service
from xtrimogene.serving.wire import ARROW, WireCells, write_cells
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


def test_a_process_that_is_started_later_answers_for_no_other_model(
    tiny_folder: Path, tiny_model: PretrainedModel, make_cells: Any, tmp_path: Path
) -> None:
    place = shutil.copytree(tiny_folder, tmp_path / "small")
    service = Service([ServedModel(name="small", place=str(place), device="cpu")], limits=Limits())
    service.start()
    try:
        shutil.rmtree(place)
        human, config = GeneVocabulary.human(), replace(tiny_model.config, num_genes=300)
        genes = GeneVocabulary(human.symbols[-300:], human.ensembl_ids[-300:])
        save(PretrainedModel(XTrimoGene(config, seed=7), genes, {}), place)
        for child in service.children:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
        cells = make_cells(5)
        body = write_cells(WireCells(counts=csr_matrix(cells.X), genes={"var_names": list(cells.var_names)}))
        unread = Unread(body=body, media_type=ARROW, model="small")
        with pytest.raises(CheckpointError, match="was replaced since 'small' was first loaded"):
            asyncio.run(service.embed(unread, pool=None, read_depth=None))
        read = service.readers[0].call(unread, 60.0)
        assert isinstance(read, Matched)
        assert read.counts.shape == (5, 400)
        assert not service.is_ready
    finally:
        service.close()


def test_an_annotator_that_was_replaced_is_another_model(tiny_folder: Path, annotator: Path, tmp_path: Path) -> None:
    place = shutil.copytree(annotator, tmp_path / "types")
    served = ServedModel(name="small", place=str(tiny_folder), annotators={"types": str(place)}, device="cpu")
    facts = build_model(served)(None)
    assert build_model(served, facts)(None) == facts
    learned = place / "annotator.json"
    learned.write_text(learned.read_text().replace('"temperature": ', '"temperature": 1'))
    with pytest.raises(CheckpointError, match="was replaced"):
        build_model(served, facts)


def test_a_process_that_ends_while_it_loads_is_an_error_that_is_told(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service([ServedModel(name="small", place=str(tiny_folder), device="cpu")], limits=Limits())
    monkeypatch.setattr(service.hosts["small"].child, "_build", os._exit)
    monkeypatch.setattr(service.hosts["small"].child, "arguments", (9,))
    with pytest.raises(ServiceError, match="did not start: model small ended"):
        service.start()
    assert not any(child.is_alive for child in service.children)
