import json
from pathlib import Path

import numpy as np
import pytest

from xtrimogene.errors import CheckpointError
from xtrimogene.tasks.annotation.annotator import AnnotationMethod, Annotator
from xtrimogene.tasks.annotation.annotator_folder import SavedAnnotator, load_annotator, save_annotator


def saved(method: AnnotationMethod = "linear") -> SavedAnnotator:
    random = np.random.default_rng(0)
    labels = np.resize(["a", "b", "c d"], 60)
    embedding = (random.normal(size=(60, 4)) + 3 * (labels == "b")[:, None]).astype(np.float32)
    return SavedAnnotator(annotator=Annotator.fit(embedding, labels, method=method), card={"model": {"model": "demo"}})


@pytest.mark.parametrize("method", ["linear", "knn"])
def test_what_is_read_answers_to_the_bit(method: AnnotationMethod, tmp_path: Path) -> None:
    written = saved(method)
    read = load_annotator(save_annotator(written, tmp_path / "deep" / "kept"))
    assert read.card == written.card and read.annotator.held_out == written.annotator.held_out
    asked = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    found, wanted = (one.annotator.annotate(asked) for one in (read, written))
    assert found.labels == wanted.labels == ("a", "b", "c d")
    for field in ("best", "confidence", "possible", "novel"):
        np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field))


def test_what_was_altered_is_refused(tmp_path: Path) -> None:
    folder = save_annotator(saved(), tmp_path / "kept")
    card = folder / "annotator.json"
    facts = json.loads(card.read_text())
    for change, words in (
        ({"format": "xtrimogene-annotator-9"}, "has format 'xtrimogene-annotator-9'"),
        ({"sha256": "0"}, "is not the file this annotator was saved with"),
        ({"method": "forest"}, "is no annotator of ours"),
        ({"temperature": "warm"}, "is no annotator of ours"),
    ):
        card.write_text(json.dumps(facts | change))
        with pytest.raises(CheckpointError, match=words):
            load_annotator(folder)
    card.write_text("[]")
    with pytest.raises(CheckpointError, match="is no annotator of ours"):
        load_annotator(folder)
    with pytest.raises(CheckpointError, match="no annotator at .* as xtrimogene.tl.fit_annotator writes it"):
        load_annotator(tmp_path)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    folder = save_annotator(saved(), tmp_path / "kept")
    with pytest.raises(CheckpointError, match="exists already"):
        save_annotator(saved(), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
