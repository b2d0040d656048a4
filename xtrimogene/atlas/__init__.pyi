from xtrimogene.atlas.indexing import index_vectors as index_vectors
from xtrimogene.atlas.on_ray import run_on_ray as run_on_ray
from xtrimogene.atlas.report import Report as Report
from xtrimogene.atlas.runs import run as run
from xtrimogene.atlas.work import AnnotateWork as AnnotateWork
from xtrimogene.atlas.work import EmbedWork as EmbedWork
