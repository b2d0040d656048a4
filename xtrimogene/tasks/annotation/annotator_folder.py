"""An annotator on disk: a folder of annotator.json, arrays.safetensors, and a model card for people, card.md.

annotator.json holds the sha256 of the weights of the model whose vectors were learned from. Where some of these were
tuned, tuned.safetensors holds what replaces them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xtrimogene.evaluation.classifiers import LinearClassifier, NeighborClassifier
from xtrimogene.tasks.annotation.annotator import Annotator
from xtrimogene.tasks.annotation.latent_expression import LatentExpression
from xtrimogene.tasks.annotation.learned import BOTH, Learned
from xtrimogene.tasks.annotation.matching import MarkerEvidence, PairScorer
from xtrimogene.tasks.annotation.model_card import model_card
from xtrimogene.tasks.annotation.novelty import LabelDistance, NeighborDistance, Strangeness
from xtrimogene.tasks.expression_space import ExpressionSpace
from xtrimogene.tasks.saved_folder import Arrays, Facts, SavedFolder

FOLDER = SavedFolder(
    what="annotator",
    format="xtrimogene-annotator-3",
    json_name="annotator.json",
    fitted_by="xtrimogene.tl.fit_annotator",
    files=("arrays", "tuned"),
)
PARTS: Mapping[str, type] = {  # of what is learned, besides the classifier
    "by_expression": LinearClassifier,
    "space": ExpressionSpace,
    "neighbors": NeighborDistance,
    "distance": LabelDistance,
}
CLASSIFIERS: Mapping[str, type] = {
    "linear": LinearClassifier,
    "ensemble": LinearClassifier,
    "knn": NeighborClassifier,
    "finetune": LinearClassifier,
    "match": LinearClassifier,
}
MEASURED = ("macro_f1", "accuracy", "calibration_error_before", "calibration_error", "coverage", "unknown")


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedAnnotator:
    """An annotator and where it comes from; ``card["model"]`` says whose vectors it reads, and how they were made.

    ``tuned`` are weights to replace some of the model's first (`with_tuned`).
    """

    annotator: Annotator
    card: Mapping[str, Any]
    tuned: Mapping[str, Tensor] | None = None


def save_annotator(saved: SavedAnnotator, folder: str | os.PathLike[str]) -> Path:
    """Write the folder (`SavedFolder.write`)."""
    annotator = saved.annotator
    arrays: dict[str, np.ndarray] = {"of_right_labels": annotator.of_right_labels, "read": annotator.read}
    arrays |= {f"strangeness.{name}": getattr(annotator.strangeness, name) for name in _arrays(Strangeness)}
    arrays["centers"] = annotator.learned.centers
    for part, kind in {"classifier": CLASSIFIERS[annotator.method], **PARTS}.items():
        arrays |= {f"{part}.{name}": getattr(getattr(annotator.learned, part), name) for name in _arrays(kind)}
    evidence, scorer = annotator.learned.evidence, annotator.learned.scorer
    if evidence is not None and scorer is not None:
        arrays |= {f"evidence.{name}": getattr(evidence, name) for name in _arrays(MarkerEvidence)}
        arrays |= {f"scorer.{name}": getattr(scorer, name) for name in _arrays(PairScorer)}
        if evidence.expression is not None:
            arrays |= {f"expression.{name}": getattr(evidence.expression, name) for name in _arrays(LatentExpression)}
    files: dict[str, Arrays] = {"arrays": arrays}
    if saved.tuned is not None:
        files["tuned"] = {name: tensor.numpy(force=True) for name, tensor in saved.tuned.items()}
    facts = {
        "method": annotator.method,
        "align": annotator.align,
        "labels": annotator.learned.labels.tolist(),
        "temperature": annotator.temperature,
        "held_out": dict(annotator.held_out),
        "card": dict(saved.card),
    }
    return FOLDER.write(folder, facts, files, texts={"card.md": model_card(annotator, saved.card)})


def load_annotator(folder: str | os.PathLike[str]) -> SavedAnnotator:
    """Read the folder (`SavedFolder.read`)."""
    return FOLDER.read(folder, _build)


def _build(facts: Facts, files: Mapping[str, Arrays]) -> SavedAnnotator:
    arrays, labels, parts = files["arrays"], np.array(facts["labels"]), {}
    for part, kind in {"classifier": CLASSIFIERS[facts["method"]], **PARTS}.items():
        own = {name: arrays[f"{part}.{name}"] for name in _arrays(kind)}
        parts[part] = kind(**own, **({"labels": labels} if kind in CLASSIFIERS.values() else {}))
    if facts["method"] == "match":
        parts |= _read_matching(arrays)
    annotator = Annotator(
        method=facts["method"],
        align=bool(facts["align"]),
        read=arrays["read"],
        learned=Learned(**parts, both=facts["method"] in BOTH, centers=arrays["centers"]),
        temperature=float(facts["temperature"]),
        of_right_labels=arrays["of_right_labels"],
        strangeness=Strangeness(**{name: arrays[f"strangeness.{name}"] for name in _arrays(Strangeness)}),
        held_out=facts["held_out"],
    )
    tuned = None
    if facts["method"] == "finetune":
        tuned = {name: torch.from_numpy(array) for name, array in files["tuned"].items()}
    saved = SavedAnnotator(annotator=annotator, card=facts["card"], tuned=tuned)
    _check(saved)
    return saved


def _read_matching(arrays: Arrays) -> dict[str, Any]:
    expression = None
    if any(name.startswith("expression.") for name in arrays):
        expression = LatentExpression(**{name: arrays[f"expression.{name}"] for name in _arrays(LatentExpression)})
    own = {name: arrays[f"evidence.{name}"] for name in _arrays(MarkerEvidence)}
    scorer = PairScorer(**{name: arrays[f"scorer.{name}"] for name in _arrays(PairScorer)})
    return {"evidence": MarkerEvidence(**own, expression=expression), "scorer": scorer}


def _arrays(kind: type) -> tuple[str, ...]:
    """Name the fields that hold numbers."""
    others = ("labels", "num_neighbors", "expression")
    return tuple(field.name for field in fields(kind) if field.name not in others)


def _check(saved: SavedAnnotator) -> None:
    """Raise a ValueError, TypeError or KeyError where what was read is not what `save_annotator` writes."""
    annotator, learned = saved.annotator, saved.annotator.learned
    labels, right, classifier = learned.labels, annotator.of_right_labels, learned.classifier
    num_axes, num_variable = learned.space.components.shape
    (num_genes,) = learned.space.share.shape
    width = len(classifier.center) if isinstance(classifier, LinearClassifier) else classifier.embedding.shape[1]
    shapes: list[tuple[Any, str, tuple[int, ...]]] = [
        (annotator, "of_right_labels", (right.size,)),
        (annotator.strangeness, "held_out", (right.size,)),
        (annotator.strangeness, "center", (2,)),
        (annotator.strangeness, "scale", (2,)),
        (learned, "centers", (len(labels), width + num_axes)),
        (learned.space, "mean", (num_variable,)),
        (learned.space, "components", (num_axes, num_variable)),
        (learned.space, "share", (num_genes,)),
        (learned.distance, "whiten", (num_axes, num_axes)),
        (learned.distance, "centers", (len(labels), num_axes)),
        (learned.distance, "spread", (len(labels),)),
        (learned.distance, "usual", (1,)),
    ]
    num_cells = len(learned.neighbors.embedding)
    shapes.append((learned.neighbors, "embedding", (num_cells, width)))
    for reader, wide in ((classifier, width), (learned.by_expression, num_axes)):
        if isinstance(reader, LinearClassifier):
            shapes += [(reader, name, (wide,)) for name in ("center", "scale")]
            shapes += [(reader, "weight", (len(labels), wide)), (reader, "bias", (len(labels),))]
    shapes += _matching_shapes(learned, width, num_genes)
    for owner, name, shape in shapes:
        _check_numbers(getattr(owner, name), shape, name)
    if isinstance(classifier, NeighborClassifier):
        _check_numbers(classifier.embedding, (num_cells, width), "embedding")
        _check_places(classifier.label_of_cell, (num_cells,), len(labels), "label_of_cell")
    _check_places(learned.space.genes, (num_variable,), num_genes, "genes")
    if annotator.read.dtype != bool or annotator.read.shape != (num_genes,):
        raise ValueError("read")
    if learned.evidence is not None:
        markers = learned.evidence.markers
        _check_places(markers, (len(labels), markers.shape[1]), num_genes, "markers")
    if right.min() < 0 or right.max() > 1 or not 0 < annotator.temperature < np.inf:
        raise ValueError("probabilities")
    if (
        min(learned.distance.spread.min(), annotator.strangeness.scale.min()) <= 0
        or learned.space.share.min() < 0
        or learned.space.share.sum() <= 0
    ):
        raise ValueError("spread or share")
    if labels.dtype.kind != "U" or not np.array_equal(labels, np.unique(labels)):
        raise ValueError("labels")
    model = saved.card["model"]
    for part, names in ((model, ("sha256", "model", "options")), (model["options"], ("pool", "read_depth"))):
        if missing := set(names) - set(part):
            raise KeyError(min(missing))
    for name in MEASURED:
        float(annotator.held_out[name])


def _matching_shapes(learned: Learned, width: int, num_genes: int) -> list[tuple[Any, str, tuple[int, ...]]]:
    evidence, scorer = learned.evidence, learned.scorer
    if evidence is None or scorer is None:
        return []
    expression = evidence.expression
    number = 1 if expression is None else 2  # what marker genes say
    shapes: list[tuple[Any, str, tuple[int, ...]]] = [
        (evidence, "usual", (num_genes,)),
        (evidence, "center", (width,)),
        (scorer, "of_cells", (number + 3,)),
        (scorer, "of_markers", (number + 1,)),
    ]
    if expression is not None:
        wide = len(expression.expand_bias)
        shapes += [(expression, "expand", (wide, width)), (expression, "expand_bias", (wide,))]
        shapes += [(expression, "contract", (width, wide)), (expression, "contract_bias", (width,))]
        shapes += [(expression, "factors", (num_genes, width)), (expression, "bias", (num_genes,))]
    return shapes


def _check_numbers(array: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all() or not array.size:
        raise ValueError(name)


def _check_places(array: np.ndarray, shape: tuple[int, ...], number: int, name: str) -> None:
    if array.dtype.kind != "i" or array.shape != shape or not ((array >= 0) & (array < number)).all():
        raise ValueError(name)
