"""Which outside methods can be run on a task, and why another cannot."""

import numpy as np

from xtrimogene.evaluation.study import PACKAGES, AnnotationStudy, Outside
from xtrimogene.evaluation.tasks import Task
from xtrimogene.evaluation.trials import Run


def outside_runs(study: AnnotationStudy, task: Task) -> tuple[list[Run], dict[str, str]]:
    """Return what runs each method of the study, and of each method that is not run, the reason."""
    runs, reasons = list[Run](), dict[str, str]()
    for name, (_, package) in PACKAGES.items():
        if name in study.outside_run:
            if name == "harmony" and not _has_batches(task):
                reasons[name] = "the cells have one batch, so nothing is to be corrected"
            else:
                runs.append(_run_of(name, study))
        elif study.outside is not None:
            reasons[name] = "not asked for"
        else:
            reasons[name] = f"{package} is not installed: pip install 'xtrimogene[eval]'"
    return runs, reasons


def _run_of(name: Outside, study: AnnotationStudy) -> Run:
    match name:
        case "celltypist":
            from xtrimogene.evaluation.outside.celltypist import run_celltypist

            return run_celltypist
        case "harmony":
            from xtrimogene.evaluation.outside.harmony import run_harmony

            return lambda lesson: run_harmony(lesson, study.strengths)
        case "scvi":
            from xtrimogene.evaluation.outside.scvi import run_scvi

            return lambda lesson: run_scvi(lesson, study.strengths, epochs=study.epochs)
        case "scanvi":
            from xtrimogene.evaluation.outside.scvi import run_scanvi

            return lambda lesson: run_scanvi(lesson, epochs=study.epochs)


def _has_batches(task: Task) -> bool:
    return len(np.unique(task.groups)) > 1
