"""Many files of cells, one output for each: in a loop, as tasks of a cluster's array, or on Ray's actors."""

from xtrimogene.lazy_names import lazy_names

_HOMES = {
    "AnnotateWork": "xtrimogene.atlas.work",
    "EmbedWork": "xtrimogene.atlas.work",
    "Report": "xtrimogene.atlas.report",
    "index_vectors": "xtrimogene.atlas.indexing",
    "run": "xtrimogene.atlas.runs",
    "run_on_ray": "xtrimogene.atlas.on_ray",
}

__all__ = ["AnnotateWork", "EmbedWork", "Report", "index_vectors", "run", "run_on_ray"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
