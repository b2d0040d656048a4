"""What held-out cells say of an annotator, in a few lines of at most 80 columns."""

from collections.abc import Iterator, Mapping
from typing import Any


def held_out_lines(figures: Mapping[str, Any], *, held_out_by: str) -> Iterator[str]:
    """Yield the lines; ``figures`` are ``Annotator.held_out``, also as JSON or an .h5ad gives them back."""
    yield (
        f"Held out by {held_out_by}: macro-F1 {figures['macro_f1']:.3f} "
        f"[{figures['macro_f1_low']:.3f}, {figures['macro_f1_high']:.3f}], accuracy {figures['accuracy']:.3f}"
    )
    names = list(figures.get("baselines", ()))
    width = max(map(len, names), default=0)
    for number, name in enumerate(names):
        difference, low, high = (figures[f"difference{end}"][number] for end in ("", "_low", "_high"))
        yield (
            f"  {figures['verdict'][number]:<6} {name:<{width}}  {figures['baseline_macro_f1'][number]:.3f}  "
            f"({difference:+.3f} [{low:+.3f}, {high:+.3f}])"
        )
    yield (
        f"Confidence is off by {figures['calibration_error']:.3f}, {figures['calibration_error_before']:.3f} before "
        "scaling."
    )
    yield (
        f"Possible labels at an error rate of 10 %: {figures['labels_possible']:.1f} a cell, with the right one in "
        f"{figures['coverage']:.0%}."
    )
