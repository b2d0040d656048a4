from xtrimogene.evaluation.annotation_result import AnnotationResult as AnnotationResult
from xtrimogene.evaluation.study import AnnotationStudy as AnnotationStudy
from xtrimogene.evaluation.study import read_study as read_study
from xtrimogene.pl.evaluation_report import report as report
from xtrimogene.tl.evaluation import annotation as annotation
