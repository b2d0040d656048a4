from xtrimogene import atlas as atlas
from xtrimogene import errors as errors
from xtrimogene import evaluation as evaluation
from xtrimogene import get as get
from xtrimogene import pl as pl
from xtrimogene import pp as pp
from xtrimogene import presets as presets
from xtrimogene import protein as protein
from xtrimogene import serving as serving
from xtrimogene import tl as tl
from xtrimogene import training as training
from xtrimogene.checkpoint import PretrainedModel as PretrainedModel
from xtrimogene.checkpoint import load as load
from xtrimogene.checkpoint import save as save
from xtrimogene.config import ModelConfig as ModelConfig
from xtrimogene.get import was_seen as was_seen
from xtrimogene.serving.client import Client as Client

__version__: str
