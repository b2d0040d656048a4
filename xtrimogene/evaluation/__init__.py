"""Is a model worth it: tasks, splits, baselines, metrics; and studies of annotation, from a config to a report."""

from importlib import import_module

_HOMES = {  # names of above stand here by their strings alone: nothing in evaluation imports them
    "AnnotationResult": "xtrimogene.evaluation.annotation_result",
    "AnnotationStudy": "xtrimogene.evaluation.study",
    "annotation": "xtrimogene.tl.evaluation",
    "read_study": "xtrimogene.evaluation.study",
    "report": "xtrimogene.pl.evaluation_report",
}

__all__ = ["AnnotationResult", "AnnotationStudy", "annotation", "read_study", "report"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
