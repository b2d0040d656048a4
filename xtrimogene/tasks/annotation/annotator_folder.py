"""An annotator on disk: a folder of annotator.json and arrays.safetensors. Never a pickle.

annotator.json holds the sha256 of the arrays, and of the weights of the model whose vectors were learned from.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from xtrimogene.checkpoint import require_unused
from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.errors import CheckpointError, ConfigError
from xtrimogene.evaluation.classifiers import LinearClassifier, NeighborClassifier
from xtrimogene.long_work import temporary_folder
from xtrimogene.tasks.annotation.annotator import Annotator

FORMAT = "xtrimogene-annotator-1"
CARD, ARRAYS = "annotator.json", "arrays.safetensors"
CLASSIFIERS = {"linear": LinearClassifier, "knn": NeighborClassifier}
ARRAYS_OF = {"linear": ("center", "scale", "weight", "bias"), "knn": ("label_of_cell",)}  # neighbours: the reference


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedAnnotator:
    """An annotator and where it comes from; ``card["model"]`` says whose vectors it reads, and how they were made."""

    annotator: Annotator
    card: Mapping[str, Any]


def save_annotator(saved: SavedAnnotator, folder: str | os.PathLike[str]) -> Path:
    """Write the folder; nothing half-written is ever seen under its name.

    Raises
    ------
    CheckpointError
        The folder exists and holds something.
    ConfigError
        It cannot be written.
    """
    target, annotator = Path(folder), saved.annotator
    require_new_folder(target)
    arrays = {
        "reference": annotator.reference,
        "of_right_labels": annotator.of_right_labels,
        "held_out_distances": annotator.held_out_distances,
    }
    arrays |= {name: getattr(annotator.classifier, name) for name in ARRAYS_OF[annotator.method]}
    with temporary_folder(target) as scratch:
        place = scratch / "annotator"
        place.mkdir()
        (place / ARRAYS).write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
        facts = {
            "format": FORMAT,
            "method": annotator.method,
            "labels": annotator.classifier.labels.tolist(),
            "temperature": annotator.temperature,
            "held_out": dict(annotator.held_out),
            "sha256": file_sha256(place / ARRAYS),
            "card": dict(saved.card),
        }
        (place / CARD).write_text(json.dumps(facts, indent=1) + "\n")
        os.replace(place, target)
    return target


def require_new_folder(folder: Path) -> None:
    """Refuse a folder that holds something, or cannot be made, before long work; make the one above it.

    Raises
    ------
    CheckpointError
        It holds something.
    ConfigError
        It cannot be made.
    """
    require_unused(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror or error}); name another place.") from error
    with temporary_folder(folder):
        pass


def load_annotator(folder: str | os.PathLike[str]) -> SavedAnnotator:
    """Read the folder.

    Raises
    ------
    CheckpointError
        No such folder, a file missing, altered or of another kind.
    """
    place = Path(folder)
    try:
        facts = json.loads((place / CARD).read_text())
        if facts["format"] != FORMAT:
            raise CheckpointError(f"{place / CARD} has format {facts['format']!r}; this version reads {FORMAT!r}.")
        if file_sha256(place / ARRAYS) != facts["sha256"]:
            raise CheckpointError(f"{place / ARRAYS} is not the file this annotator was saved with; fit it again.")
        arrays = load((place / ARRAYS).read_bytes())
        kind = CLASSIFIERS[facts["method"]]
        own = {name: arrays[name] for name in ARRAYS_OF[facts["method"]]}
        if kind is NeighborClassifier:
            own["embedding"] = arrays["reference"]
        classifier = kind(labels=np.array(facts["labels"]), **own)
        annotator = Annotator(
            method=facts["method"],
            classifier=classifier,
            reference=arrays["reference"],
            temperature=float(facts["temperature"]),
            of_right_labels=arrays["of_right_labels"],
            held_out_distances=arrays["held_out_distances"],
            held_out=facts["held_out"],
        )
        saved = SavedAnnotator(annotator=annotator, card=facts["card"])
        _check(saved)
        return saved
    except OSError as error:
        raise CheckpointError(
            f"no annotator at {str(place)!r} ({error.strerror or error}): a folder with {CARD} and {ARRAYS} is needed, "
            "as xtrimogene.tl.fit_annotator writes it."
        ) from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{place} is no annotator of ours ({error!r}); fit it again.") from None


def _check(saved: SavedAnnotator) -> None:
    """Raise a ValueError, TypeError or KeyError where what was read is not what `save_annotator` writes."""
    annotator, classifier = saved.annotator, saved.annotator.classifier
    labels, right = classifier.labels, annotator.of_right_labels
    num_cells, width = annotator.reference.shape
    shapes = {"reference": (num_cells, width), "of_right_labels": (right.size,), "held_out_distances": (right.size,)}
    found = {name: getattr(annotator, name) for name in shapes}
    if isinstance(classifier, LinearClassifier):
        own = {"center": (width,), "scale": (width,), "weight": (len(labels), width), "bias": (len(labels),)}
        shapes, found = shapes | own, found | {name: getattr(classifier, name) for name in own}
    else:
        label = classifier.label_of_cell
        if label.dtype.kind != "i" or label.shape != (num_cells,) or not ((label >= 0) & (label < len(labels))).all():
            raise ValueError("label_of_cell")
    for name, array in found.items():
        if array.shape != shapes[name] or array.dtype.kind != "f" or not np.isfinite(array).all() or not array.size:
            raise ValueError(name)
    if right.min() < 0 or right.max() > 1 or not 0 < annotator.temperature < np.inf:
        raise ValueError("probabilities")
    if labels.dtype.kind != "U" or not np.array_equal(labels, np.unique(labels)):
        raise ValueError("labels")
    model = saved.card["model"]
    for part, names in ((model, ("sha256", "model", "options")), (model["options"], ("pool", "read_depth"))):
        if missing := set(names) - set(part):
            raise KeyError(min(missing))
    for name in ("macro_f1", "accuracy", "calibration_error", "calibration_error_before"):
        float(annotator.held_out[name])
