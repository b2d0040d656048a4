"""Results as Markdown for people and as plain dictionaries for JSON; where a baseline wins, a sentence says so."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from xtrimogene.evaluation.bootstrap import Interval, Verdict
from xtrimogene.evaluation.comparison import Difference, Method, MethodScore, Space, TaskResult

MARKS: Mapping[Verdict, str] = {"beats": "+", "ties": "=", "loses": "-"}


def as_dict(results: Sequence[TaskResult]) -> dict[str, Any]:
    """Everything measured, in types that JSON has, with the sentences of `summary`."""
    return {"tasks": [_plain(asdict(result)) for result in results], "summary": list(summary(results))}


def to_markdown(results: Sequence[TaskResult]) -> str:
    """Return the summary, an overview, and a section for each task, at most 100 columns wide."""
    sentences = "\n".join(f"* {sentence}" for sentence in summary(results))
    parts = [sentences, *overview(results), *(_section(result) for result in results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(results: Sequence[TaskResult]) -> Iterator[str]:
    """Yield one sentence for each pair of method and baseline; it names every task where the baseline wins."""
    pairs: dict[tuple[Method, Method], list[tuple[str, Difference]]] = {}
    for result in results:
        for difference in result.differences:
            pairs.setdefault((difference.method, difference.baseline), []).append((result.task, difference))
    for (method, baseline), met in pairs.items():
        verdicts = [difference.verdict for _, difference in met]
        counted = (
            f"beats {baseline} on {verdicts.count('beats')} of {_tasks(len(met))}, ties on {verdicts.count('ties')}"
        )
        lost = [
            f"{task} ({difference.macro_f1.mean:+.3f})" for task, difference in met if difference.verdict == "loses"
        ]
        yield f"{method}: {counted}" + (f"; {baseline} wins on {', '.join(lost)}." if lost else " and loses on none.")


def overview(results: Sequence[TaskResult]) -> Iterator[str]:
    """Yield one table for each judged method: a row for each task, beside the methods of the same classifier."""
    for method in dict.fromkeys(difference.method for result in results for difference in result.differences):
        met = [
            [one for one in result.differences if one.method == method and one.baseline.classifier]
            for result in results
        ]
        others = dict.fromkeys(difference.baseline for differences in met for difference in differences)
        rows = []
        for result, differences in zip(results, met, strict=True):
            means = {score.method: f"{score.macro_f1.mean:.3f}" for score in result.scores}
            marks = {difference.baseline: MARKS[difference.verdict] for difference in differences}
            compared = [f"{means[other]} {marks[other]}" if other in marks else "" for other in others]
            rows.append((result.task, means.get(method, ""), *compared))
        header = ("task", method.features, *(other.features for other in others))
        yield f"Macro-F1, {method.classifier}: {method.features} beats (+), ties with (=), loses to (-)\n\n" + table(
            header, rows
        )


def _section(result: TaskResult) -> str:
    facts = f"{result.num_tested:,} test cells, {len(result.labels)} labels; kept apart: {result.grouping}."
    if result.unseen_labels:
        facts += f" Without training cells in some split, and wrong there: {', '.join(result.unseen_labels)}."
    against: dict[Method, Difference] = {}
    for difference in result.differences:  # the most frequent label is met by each classifier; the first stands here
        against.setdefault(difference.baseline, difference)
    ordered = sorted(result.scores, key=lambda score: -score.macro_f1.mean)
    scores = [_score_row(score, against.get(score.method)) for score in ordered]
    spaces = [_space_row(name, space) for name, space in result.spaces.items()]
    return "\n\n".join(
        (
            f"### {result.task}",
            facts,
            table(("method", "macro-F1", "accuracy", "ours minus this", "ours"), scores),
            table(("embedding", "ARI", "NMI", "silhouette", "batch mixing"), spaces),
        )
    )


def _score_row(score: MethodScore, difference: Difference | None) -> tuple[str, ...]:
    ours = (interval_text(difference.macro_f1, "+.3f"), difference.verdict) if difference is not None else ("", "")
    return (str(score.method), interval_text(score.macro_f1, ".3f"), f"{score.accuracy:.3f}", *ours)


def _space_row(name: str, space: Space) -> tuple[str, ...]:
    numbers = (space.clusters.ari, space.clusters.nmi, space.clusters.silhouette, space.mixing)
    return (name, *("" if number is None else f"{number:.3f}" for number in numbers))


def interval_text(interval: Interval, form: str) -> str:
    return f"{interval.mean:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def _tasks(number: int) -> str:
    return f"{number} task" if number == 1 else f"{number} tasks"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    header, *rows = ([cell.replace("|", "\\|") for cell in line] for line in (header, *rows))
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
