"""The card that a person reads before using somebody's annotator."""

from typing import Any

import numpy as np

from xtrimogene.tasks.annotation.model_card import model_card


def test_a_card_says_what_was_learned_and_what_it_is_worth(draw_kinds: Any) -> None:
    cells = draw_kinds({"B cell": 60, "T cell": 40})
    named = cells.named(np.where(cells.labels == "B cell", "B | plasma", "T cell"))
    annotator = named.fit(baselines=True)
    facts = {
        "label_key": "cell_type",
        "held_out_by": "donor",
        "labels": ["B | plasma", "T cell", "a rare one"],
        "cells": [60, 40, 1],
        "model": {"model": "demo", "sha256": "0123456789abcdef"},
        "ontology": {"labels": ["T cell"], "ids": ["CL:0000084"]},
    }
    card = model_card(annotator, facts)
    assert card.startswith("# Annotator of cell_type\n")
    assert "101 cells with 3 labels, in 40 genes: method ensemble" in card
    assert "demo (sha256 0123456789ab...); a query is aligned" in card
    figures = annotator.held_out
    assert f"Held out by donor: macro-F1 {figures['macro_f1']:.3f}" in card
    assert all(name in card for name in figures["baselines"])
    shown = [f"{figures[name][1]:.3f}" for name in ("label_precision", "label_recall")]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in card.splitlines() if "CL:" in line]
    assert rows == [["| T cell", "40", *shown, "CL:0000084 |"]]
    assert "| B \\| plasma |" in card, "a label may hold what parts columns"
    assert "| a rare one  | 1                  | none held out |" in card
    alone = model_card(named.fit(baselines=False, align=False), {**facts, "ontology": {"labels": [], "ids": []}})
    assert "each cell is judged by itself" in alone and "HVG" not in alone
