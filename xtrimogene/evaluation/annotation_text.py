"""A study's result in words: a report in Markdown, and a summary for a terminal."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xtrimogene.evaluation.annotation_result import AnnotationResult
from xtrimogene.evaluation.task_tables import interval_text, table

WIDTH = 100
SCREEN = 80
STAR = "* has seen the counts of all test cells together, never their labels."
MOST_CONFUSED = 10


def to_report(result: AnnotationResult, figures: Mapping[str, str]) -> str:
    """Return report.md, at most 100 columns wide but for tables with longer labels, ending with the verdict.

    Parameters
    ----------
    figures
        File names of "macro_f1", "confusion" and, where there is one, "calibration".
    """
    parts = [
        f"# Annotation: {result.scores.task}",
        *map(_wrap, _facts(result)),
        "## Macro-F1",
        f"![macro-F1 of each method]({figures['macro_f1']})",
        _score_table(result),
        _wrap(_interval_words(result)),
        *_seen_words(result),
        f"## Labels ({_plain(result.ours)}, first seed)",
        f"![confusion matrix]({figures['confusion']})",
        _class_table(result),
        _confused(result),
        "## What is said beside the labels",
        f"![calibration curve]({figures['calibration']})" if "calibration" in figures else "",
        *_worth(result),
        "## What was chosen on inner folds",
        _wrap(_inner_words(result)),
        _choice_table(result),
        "## What was run",
        table(("file", "cells", "used", "genes read", "tested"), [_file_row(one) for one in result.facts["files"]]),
        *_not_run(result),
        _wrap("Versions: " + ", ".join(f"{name} {number}" for name, number in result.facts["versions"].items()) + "."),
        "## Verdict",
        _wrap(f"{_plain(result.verdict)} in macro-F1."),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_summary(result: AnnotationResult) -> str:
    """Return a table of at most 80 columns, with the verdict as its last line."""
    width = max(len(str(score.method)) for score in result.scores.scores)
    lines = [f"{'':<{width}}  macro-F1 [95 % interval]     accuracy"]
    for score in _ordered(result):
        lines.append(f"{score.method!s:<{width}}  {interval_text(score.macro_f1, '.3f'):<27}  {score.accuracy:.3f}")
    if any("*" in str(score.method) for score in result.scores.scores):
        lines.append(STAR)
    if result.ours in result.worth:
        worth = result.worth[result.ours]
        lines.append(
            f"Confidence is off by {worth.calibration_error:.3f}; {worth.labels_possible:.1f} possible labels a cell, "
            f"right in {worth.coverage:.0%}."
        )
    warned = [*_seen_words(result, width=SCREEN), *_unseen_words(result)]
    warned += [_cell_words()] if result.scores.grouping == "cell" else []
    lines += [textwrap.fill(one, SCREEN) for one in warned]
    return "\n".join([*lines, textwrap.fill(f"Verdict: {result.verdict} in macro-F1.", SCREEN)])


def _facts(result: AnnotationResult) -> Iterator[str]:
    facts, scores = result.facts, result.scores
    yield (
        f"{scores.num_tested:,} test cells of {len(scores.labels)} labels, {len(facts['splits'])} "
        f"{'split' if len(facts['splits']) == 1 else 'splits'} by {scores.grouping}, {len(facts['seeds'])} "
        f"{'seed' if len(facts['seeds']) == 1 else 'seeds'}. Model: {facts['model']} (sha256 {facts['sha256'][:12]}). "
        f"Baselines read the {facts['genes']:,} genes of the model that all files measured."
    )
    if scores.grouping == "cell":
        yield _cell_words()
    yield from _unseen_words(result)


def _unseen_words(result: AnnotationResult) -> list[str]:
    if not result.scores.unseen_labels:
        return []
    names = ", ".join(result.scores.unseen_labels)
    return [f"Labels that some split tests without a training cell, where every method is wrong: {names}."]


def _cell_words() -> str:
    return (
        "Split by cell, as asked for: cells of the same donors are on both sides, which is an easier question than a "
        "new donor or study, and the figures are not those to expect there."
    )


def _seen_words(result: AnnotationResult, *, width: int = WIDTH) -> list[str]:
    number, tested = result.facts["tested_cells_seen_in_pretraining"], result.scores.num_tested
    if number is None:
        words = "Whether the model was pre-trained on the test cells is not known."
    elif number:
        words = f"The model was pre-trained (without labels) on {number:,} of the {tested:,} test cells."
    else:
        words = "The model was not pre-trained on any test cell."
    return [textwrap.fill(words, width)]


def _ordered(result: AnnotationResult) -> list[Any]:
    return sorted(result.scores.scores, key=lambda score: -score.macro_f1.mean)


def _score_table(result: AnnotationResult) -> str:
    compared = {one.baseline: one for one in result.scores.differences}
    rows = []
    for score in _ordered(result):
        one = compared.get(score.method)
        ours = (interval_text(one.macro_f1, "+.3f"), one.verdict) if one is not None else ("", "")
        name = _plain(score.method)
        name = f"**{name}**" if score.method == result.ours else name
        rows.append((name, interval_text(score.macro_f1, ".3f"), f"{score.accuracy:.3f}", *ours))
    return table(("method", "macro-F1", "accuracy", "ours minus this", "verdict"), rows)


def _interval_words(result: AnnotationResult) -> str:
    words = (
        "Means over seeds; in brackets, 95 % intervals of a bootstrap over test cells and seeds, paired for "
        "differences. They speak of these donors and studies: the choice of others is not in them. Every method "
        "learns from the training cells of a split alone. Ours is judged by the best label, also of cells that it "
        "calls unknown, as the others cannot."
    )
    if any("*" in str(score.method) for score in result.scores.scores):
        words += " \\" + STAR
    if "celltypist" in result.study.outside_run:
        words += " CellTypist learns by its own settings."
    if {"scvi", "scanvi"} & set(result.study.outside_run):
        words += (
            f" scVI learns for {result.facts['epochs'] or 'up to 400 (its own rule)'} epochs on 2,000 genes; scANVI "
            "goes on for a fifth of them, and maps the test cells in as many."
        )
    return words


def _class_table(result: AnnotationResult) -> str:
    ours = result.score_of(result.ours).per_class
    best = {one.label: one for one in result.score_of(result.best_baseline).per_class}
    rows = [
        (one.label, f"{one.num_cells:,}", f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}",
         f"{best[one.label].f1:.3f}")
        for one in ours
    ]  # fmt: skip
    return table(("label", "cells", "precision", "recall", "F1", f"F1, {_plain(result.best_baseline)}"), rows)


def _confused(result: AnnotationResult) -> str:
    true, given, counts = result.confusion()
    mixed = [
        (number, label, other)
        for label, row in zip(true, counts, strict=True)
        for other, number in zip(given, row, strict=True)
        if number and label != other
    ]
    if not mixed:
        return "No cell has a wrong label."
    total = {label: sum(row) for label, row in zip(true, counts, strict=True)}
    rows = [
        (label, other, f"{number:,}", f"{number / total[label]:.0%}")
        for number, label, other in sorted(mixed, key=lambda one: (-one[0], one[1], one[2]))[:MOST_CONFUSED]
    ]
    return table(("true label", "label given", "cells", "of the label"), rows)


def _worth(result: AnnotationResult) -> Iterator[str]:
    if not result.worth:
        yield "No test cell has a label that was learned from."
        return
    worth = result.worth[result.ours]
    yield _wrap(
        f"Of the test cells whose label was learned from, confidence is off by {worth.calibration_error:.3f} (expected "
        f"calibration error, 15 bins). At an error rate of {result.facts['error_rate']:.0%}, the possible labels hold "
        f"the right one in {worth.coverage:.1%} of the cells, with {worth.labels_possible:.2f} labels a cell; "
        f"{worth.unknown:.1%} are called unknown. Both rates hold for cells like those learned from, and can be off in "
        "another study."
    )
    bins = [(f"{one.confidence:.3f}", f"{one.right:.3f}", f"{one.num_cells:,}") for one in result.calibration]
    yield table(("confidence", "right", "cells of all seeds"), bins)
    rows = [
        (_plain(method), f"{one.calibration_error:.3f}", f"{one.coverage:.3f}", f"{one.labels_possible:.2f}",
         f"{one.unknown:.3f}")
        for method, one in result.worth.items()
    ]  # fmt: skip
    yield table(("method", "off by", "coverage", "possible labels", "unknown"), rows)


def _inner_words(result: AnnotationResult) -> str:
    grouping = " and ".join(result.facts["inner_grouping"])
    return (
        f"On folds by {grouping} of the training cells alone, by macro-F1: C of each logistic regression on an "
        f"embedding, on components or on genes, among {', '.join(f'{one:g}' for one in result.facts['strengths'])}, "
        "and the method of annotate, whose own regressions keep the C that they ship with. Each choice, with what it "
        "was made by, is in report.json."
    )


def _choice_table(result: AnnotationResult) -> str:
    values: dict[tuple[str, str], list[str]] = {}
    for one in result.chosen:
        value = f"{one['value']:g}" if isinstance(one["value"], float) else str(one["value"])
        values.setdefault((one["method"], one["setting"]), []).append(value)
    rows = [
        (_plain(method), setting, ", ".join(f"{value} ({n})" for value, n in Counter(given).most_common()))
        for (method, setting), given in values.items()
    ]
    return table(("method", "setting", "chosen (times)"), rows) if rows else "Nothing was to be chosen."


def _file_row(one: Mapping[str, Any]) -> Sequence[str]:
    return (
        one["file"],
        f"{one['cells']:,}",
        f"{one['cells_used']:,}",
        f"{one['genes']:,}",
        "yes" if one["tested"] else "no",
    )


def _not_run(result: AnnotationResult) -> Iterator[str]:
    if result.not_run:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in result.not_run.items())
        yield _wrap(f"Not run: {reasons}.")


def _plain(text: object) -> str:
    return str(text).replace("*", "\\*")  # a star is no markup


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
