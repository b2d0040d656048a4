from xtrimogene.config import PretrainConfig as PretrainConfig
from xtrimogene.training.run import pretrain as pretrain
from xtrimogene.training.run import read_config as read_config
