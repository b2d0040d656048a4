import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.errors import CheckpointError
from xtrimogene.tasks.annotation.annotator_folder import SavedAnnotator, load_annotator, save_annotator
from xtrimogene.tasks.annotation.learned import AnnotationMethod

Saved = Callable[..., SavedAnnotator]
CARD = {
    "label_key": "kind",
    "held_out_by": "cell",
    "labels": ["a", "b", "c d"],
    "cells": [20, 30, 10],
    "model": {"model": "demo", "sha256": "0", "options": {"pool": "all", "read_depth": "f1"}},
}


@pytest.fixture(scope="module")
def saved(draw_kinds: Any) -> Callable[..., SavedAnnotator]:
    """Each method is fitted once."""
    cells = draw_kinds({"B cell": 30, "T cell": 30})
    named = cells.named(np.where(np.arange(60) < 10, "c d", np.where(cells.labels == "B cell", "a", "b")))

    @cache
    def fitted(method: AnnotationMethod = "linear") -> SavedAnnotator:
        tuned = {"tuned": named.tuned()} if method == "finetune" else {}
        annotator = named.fit(method=method, baselines=True, **tuned)
        return SavedAnnotator(annotator=annotator, card=CARD, tuned=tuned["tuned"].weights if tuned else None)

    return fitted


@pytest.mark.parametrize("method", ["ensemble", "linear", "knn", "finetune", "match"])
def test_what_is_read_answers_to_the_bit(
    method: AnnotationMethod, saved: Saved, draw_kinds: Any, tmp_path: Path
) -> None:
    written = saved(method)
    read = load_annotator(save_annotator(written, tmp_path / "deep" / "kept"))
    assert read.card == written.card and read.annotator.held_out == written.annotator.held_out
    asked = draw_kinds({"B cell": 10, "platelet": 10}, seed=1)
    found, wanted = (asked.asked(one.annotator) for one in (read, written))
    assert found.labels == wanted.labels == ("a", "b", "c d")
    for field in ("best", "confidence", "possible", "novel"):
        np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field))


def test_tuned_weights_are_kept_and_guarded(saved: Saved, tmp_path: Path) -> None:
    written = saved("finetune")
    folder = save_annotator(written, tmp_path / "kept")
    read = load_annotator(folder)
    assert written.tuned is not None and read.tuned is not None and list(read.tuned) == list(written.tuned)
    assert all(torch.equal(read.tuned[name], weight) for name, weight in written.tuned.items())
    (folder / "tuned.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no annotator at"):
        load_annotator(folder)
    assert not (save_annotator(saved("ensemble"), tmp_path / "other") / "tuned.safetensors").exists()


def test_what_was_altered_is_refused(saved: Saved, tmp_path: Path) -> None:
    folder = save_annotator(saved(), tmp_path / "kept")
    card = folder / "annotator.json"
    facts = json.loads(card.read_text())
    for change in (
        {"method": "forest"},
        {"temperature": "warm"},
        {"temperature": 0},
        {"temperature": 10**400},
        {"labels": ["a", "a", "b"]},
        {"labels": ["a", "b"]},
        {"held_out": {}},
        {"card": []},
        {"card": {"model": {}}},
    ):
        card.write_text(json.dumps(facts | change))
        with pytest.raises(CheckpointError, match="is no annotator of ours"):
            load_annotator(folder)


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        ("linear", "classifier.weight", np.zeros((3, 5))),
        ("linear", "classifier.bias", np.full(3, np.nan)),
        ("linear", "of_right_labels", np.full(60, 1.5)),
        ("linear", "strangeness.held_out", np.zeros(7)),
        ("linear", "strangeness.held_out", np.zeros(60, dtype=np.int64)),
        ("linear", "strangeness.scale", np.zeros(2)),
        ("ensemble", "by_expression.weight", np.zeros((3, 2))),
        ("knn", "classifier.embedding", np.zeros((0, 2))),
        ("knn", "classifier.label_of_cell", np.full(60, 3)),
        ("knn", "classifier.label_of_cell", np.full(60, -1)),
        ("knn", "classifier.label_of_cell", np.zeros(60)),
        ("linear", "space.genes", np.full(40, 45)),
        ("linear", "space.share", np.zeros(45)),
        ("linear", "space.components", np.zeros((39, 39))),
        ("linear", "distance.spread", np.zeros(3)),
        ("linear", "distance.usual", np.zeros(2)),
        ("linear", "neighbors.embedding", np.zeros((5, 3))),
        ("linear", "distance.whiten", np.zeros((3, 39))),
        ("linear", "distance.centers", np.full((3, 39), np.inf)),
    ],
)
def test_arrays_that_cannot_be_are_refused(
    method: AnnotationMethod, name: str, value: np.ndarray, saved: Saved, tmp_path: Path
) -> None:
    folder = save_annotator(saved(method), tmp_path / "kept")
    arrays = load((folder / "arrays.safetensors").read_bytes())
    (folder / "arrays.safetensors").write_bytes(save(arrays | {name: value}))
    facts = json.loads((folder / "annotator.json").read_text())
    facts["sha256"] = file_sha256(folder / "arrays.safetensors")
    (folder / "annotator.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match="is no annotator of ours"):
        load_annotator(folder)
