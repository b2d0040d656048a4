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

from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.errors import CheckpointError
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
    target.parent.mkdir(parents=True, exist_ok=True)
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
    """Refuse a folder that holds something, before long work.

    Raises
    ------
    CheckpointError
        It does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} exists already; name a new folder, or remove it first.")


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
        return SavedAnnotator(annotator=annotator, card=facts["card"])
    except OSError as error:
        raise CheckpointError(
            f"no annotator at {str(place)!r} ({error.strerror or error}): a folder with {CARD} and {ARRAYS} is needed, "
            "as xtrimogene.tl.fit_annotator writes it."
        ) from None
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{place} is no annotator of ours ({error!r}); fit it again.") from None
