"""A study's report: a folder of Markdown, three figures and all numbers as JSON."""

import json
import os
from pathlib import Path

from xtrimogene.checkpoint import require_new_folder
from xtrimogene.evaluation.annotation_result import AnnotationResult, result_as_dict
from xtrimogene.evaluation.annotation_text import to_report
from xtrimogene.long_work import temporary_folder
from xtrimogene.pl import evaluation

REPORT, NUMBERS = "report.md", "report.json"
FIGURES = {name: f"{name}.png" for name in ("macro_f1", "confusion", "calibration")}


def report(result: AnnotationResult, folder: str | os.PathLike[str]) -> Path:
    """Write report.md, which ends with the verdict, its figures, and report.json.

    Parameters
    ----------
    folder
        Must not exist yet, or be an empty folder.

    Raises
    ------
    CheckpointError, ConfigError
        The folder holds something, or cannot be written.
    """
    place = Path(folder)
    require_new_folder(place)
    with temporary_folder(place) as scratch:
        made = scratch / "report"
        made.mkdir()
        drawn = dict(FIGURES)
        if not len(result.confidence):
            del drawn["calibration"]
        _draw(result, made, drawn)
        (made / REPORT).write_text(to_report(result, drawn))
        (made / NUMBERS).write_text(json.dumps(result_as_dict(result), indent=1) + "\n")
        os.replace(made, place)
    return place


def _draw(result: AnnotationResult, folder: Path, names: dict[str, str]) -> None:
    from matplotlib import pyplot

    for name, file in names.items():
        ax = getattr(evaluation, name)(result)
        ax.figure.savefig(folder / file, dpi=150)
        pyplot.close(ax.figure)
