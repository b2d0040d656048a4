from xtrimogene.config import FineTuneConfig as FineTuneConfig
from xtrimogene.config import PretrainConfig as PretrainConfig
from xtrimogene.tl import fit_annotator as fit_annotator
from xtrimogene.training.data_summary import DataSummary as DataSummary
from xtrimogene.training.data_summary import summarize_files as summarize_files
from xtrimogene.training.planning import plan as plan
from xtrimogene.training.run import pretrain as pretrain
from xtrimogene.training.run import read_config as read_config
