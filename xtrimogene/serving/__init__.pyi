from xtrimogene.serving.client import Client as Client
from xtrimogene.serving.limits import Limits as Limits
from xtrimogene.serving.served_model import ServedModel as ServedModel
from xtrimogene.serving.server import serve as serve
