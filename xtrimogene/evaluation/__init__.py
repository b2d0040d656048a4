"""Is a model worth it: tasks, splits, baselines, metrics; and studies of annotation, from a config to a report."""

from xtrimogene.lazy_names import lazy_names

_HOMES = {  # names of above stand here by their strings alone: nothing in evaluation imports them
    "AnnotationResult": "xtrimogene.evaluation.annotation_result",
    "AnnotationStudy": "xtrimogene.evaluation.study",
    "annotation": "xtrimogene.tl.evaluation",
    "read_study": "xtrimogene.evaluation.study",
    "report": "xtrimogene.pl.evaluation_report",
}

__all__ = ["AnnotationResult", "AnnotationStudy", "annotation", "read_study", "report"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
