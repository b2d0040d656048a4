"""Pre-training of a protein model as a LightningModule: cross-entropy over what a step asks for.

The loss is a mean over the step's targets, of all its passes: a step is the same however it is cut.
"""

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.optim.lr_scheduler import LambdaLR

from xtrimogene.model.checkpointing import set_activation_checkpointing
from xtrimogene.protein.config import ProteinPretrainConfig
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.training.batch import summed_loss
from xtrimogene.protein.training.data_module import ProteinStep
from xtrimogene.training.optimizer import build_optimizer, build_schedule


class ProteinPretraining(LightningModule):
    def __init__(self, network: ProteinLM, config: ProteinPretrainConfig) -> None:
        super().__init__()
        self.automatic_optimization = False
        set_activation_checkpointing(network, config.activation_checkpointing)
        self.network = network
        self.config = config

    def training_step(self, batch: ProteinStep, batch_index: int) -> None:
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer) and isinstance(schedule, LambdaLR)
        self.zero_grad(set_to_none=True)
        total = max(1, sum(part.num_targets for part in batch))
        loss = torch.zeros((), device=self.device)
        for part in batch:
            share = summed_loss(self.network, part) / total
            self.manual_backward(share)
            loss += share.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.config.gradient_clip)
        self.log("gradient_norm", norm)
        self.log("learning_rate", optimizer.param_groups[0]["lr"])
        self.log("loss", loss)
        optimizer.step()
        schedule.step()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = build_optimizer(self, self.config.optimizer)
        schedule = build_schedule(optimizer, self.config.optimizer, self.config.num_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
