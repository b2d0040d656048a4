"""A model card of an annotator, in Markdown: what it learned from, and what its labels are worth in held-out cells."""

from collections.abc import Iterator, Mapping
from typing import Any

from xtrimogene.evaluation.task_tables import table
from xtrimogene.tasks.annotation.annotator import Annotator
from xtrimogene.tasks.annotation.held_out_text import held_out_lines


def model_card(annotator: Annotator, facts: Mapping[str, Any]) -> str:
    """Return the card; ``facts`` are those of `SavedAnnotator.card`."""
    model, numbers = facts["model"], facts["cells"]
    lines = held_out_lines(annotator.held_out, held_out_by=facts["held_out_by"])
    aligned = "a query is aligned where its types agree" if annotator.align else "each cell is judged by itself"
    parts = [
        f"# Annotator of {facts['label_key']}",
        f"Learned by `xtrimogene.training.fit_annotator` from {sum(numbers):,} cells with {len(numbers):,} labels, in "
        f"{int(annotator.read.sum()):,} genes: method {annotator.method}, in vectors of the model {model['model']} "
        f"(sha256 {model['sha256'][:12]}...); {aligned}. `xtrimogene.tl.annotate(cells, annotator=...)` reads it.",
        "## What its labels are worth",
        f"In cells of the reference that were held out by {facts['held_out_by']}. In another tissue, protocol or "
        "disease it may be less: look at labels that matter, and at cells that are called unknown.",
        "\n".join(["```", *lines, "```"]),
        table(("label", "cells learned from", "precision", "recall", "id"), list(_rows(annotator, facts))),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(annotator: Annotator, facts: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    held_out = annotator.held_out
    ids = dict(zip(*facts["ontology"].values(), strict=True)) if "ontology" in facts else {}
    measured = zip(held_out["labels"], held_out["label_precision"], held_out["label_recall"], strict=True)
    worth = {label: [f"{share:.3f}" for share in shares] for label, *shares in measured}
    for label, number in zip(facts["labels"], facts["cells"], strict=True):
        yield label, f"{number:,}", *worth.get(label, ["none held out", ""]), ids.get(label, "")
