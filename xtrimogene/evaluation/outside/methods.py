"""Which outside methods can be run on a task, and why another cannot."""

from collections.abc import Sequence

import numpy as np

from xtrimogene.evaluation.study import PACKAGES, AnnotationStudy, Outside
from xtrimogene.evaluation.tasks import Task
from xtrimogene.evaluation.trials import Run


def outside_runs(study: AnnotationStudy, task: Task) -> tuple[list[Run], dict[str, str]]:
    """Return what runs each method of the study, and of each method that is not run, the reason."""
    runs, reasons = list[Run](), dict[str, str]()
    for name, (_, package) in PACKAGES.items():
        if name in study.outside_run:
            if suits(name, task):
                runs.append(outside_run(name, study.strengths, epochs=study.epochs))
            else:
                reasons[name] = "the cells have one batch, so nothing is to be corrected"
        elif study.outside is not None:
            reasons[name] = "not asked for"
        else:
            reasons[name] = f"{package} is not installed: pip install 'xtrimogene[eval]'"
    return runs, reasons


def outside_run(name: Outside, strengths: Sequence[float], *, epochs: int | None = None) -> Run:
    """Return what runs a method whose package is installed; ``epochs`` as in `AnnotationStudy`."""
    match name:
        case "celltypist":
            from xtrimogene.evaluation.outside.celltypist import run_celltypist

            return run_celltypist
        case "harmony":
            from xtrimogene.evaluation.outside.harmony import run_harmony

            return lambda lesson: run_harmony(lesson, strengths)
        case "scvi":
            from xtrimogene.evaluation.outside.scvi import run_scvi

            return lambda lesson: run_scvi(lesson, strengths, epochs=epochs)
        case "scanvi":
            from xtrimogene.evaluation.outside.scvi import run_scanvi

            return lambda lesson: run_scanvi(lesson, epochs=epochs)


def suits(name: Outside, task: Task) -> bool:
    """Harmony needs cells of two batches: else nothing is to be corrected."""
    return name != "harmony" or len(np.unique(task.groups)) > 1
