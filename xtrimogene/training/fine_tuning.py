"""Fine-tuning as a LightningModule: the last layers of an encoder learn to tell labels apart.

What is tuned answers too surely for the cells it learned from, so every cell is also read by layers that did not:
K + 1 learners stand on one network, one for each of K folds of the cells, which never learns from that fold, and one
for all cells. The network below them is run once for all. After each epoch the vectors that the folds' learners give
some cells are judged, and all stop where these are best together, which may be before the first step.

Heads begin with given weights, as fresh ones would at first pull the layers anywhere (Kumar et al., Fine-tuning can
distort pretrained features, 2022). Where there are batches, each cell is drawn to the mean of its label in the other
batches as well (of its label, as batches differ in their labels).

Letters: A cells; J of them judged; B of a batch; L labels; P width of a cell's vector; K folds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int64
from lightning import LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from xtrimogene.config import FineTuneConfig, Pool, uses_bfloat16
from xtrimogene.data.read_depth import ReadDepth
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.labelled_cells import CellBatches, LabelledBatch, LabelledCells
from xtrimogene.training.learner import Learner, LinearHead
from xtrimogene.training.quiet_lightning import quiet_lightning
from xtrimogene.training.step_progress import StepProgress

Judge = Callable[[Float32[np.ndarray, "K J P"]], float]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FineTuned:
    """The weights of each fold's layers and, last, of those of all cells, after the best number of epochs.

    ``losses``: what the judge said before the first epoch and after each.
    """

    weights: tuple[dict[str, Tensor], ...]
    losses: tuple[float, ...]


class FineTuning(LightningModule):
    """``judge`` is given the vectors of the judged cells by each fold's learner, and says how bad they are."""

    def __init__(
        self,
        network: XTrimoGene,
        cells: LabelledCells,
        heads: Sequence[LinearHead],
        config: FineTuneConfig,
        *,
        pool: Pool,
        judge: Judge,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.cells, self.config, self.judge = cells, config, judge
        num_labels = len(heads[0].bias)
        self.learners = nn.ModuleList(
            Learner(
                network,
                head,
                config,
                pool=pool,
                label_weights=_weights(cells.label, cells.taught(number)),
                means=cells.means(number, num_labels),
            )
            for number, head in enumerate(heads)
        )
        averaged = get_ema_multi_avg_fn(config.averaging)  # type: ignore[no-untyped-call]
        self.averages = AveragedModel(self.learners, multi_avg_fn=averaged).requires_grad_(False)
        self.vectors = np.zeros((len(heads) - 1, *cells.vectors.shape), dtype=np.float32)
        self.losses: list[float] = []
        self.best: tuple[dict[str, Tensor], ...] = ()

    def training_step(self, batch: LabelledBatch, batch_index: int) -> None:
        optimizer, warmup = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer) and isinstance(warmup, LambdaLR)
        optimizer.zero_grad()
        for number, learner in enumerate(_each(self.learners)):
            chosen = self.cells.taught(number)[batch.rows]
            if chosen.any():
                rows = batch.rows[chosen]
                batches = None if self.cells.batch is None else self._sent(self.cells.batch[rows])
                self.manual_backward(learner.loss(batch.where(chosen), self._sent(self.cells.label[rows]), batches))
                torch.nn.utils.clip_grad_norm_(learner.parameters(), self.config.gradient_clip)
        optimizer.step()
        warmup.step()
        self.averages.update_parameters(self.learners)

    def validation_step(self, batch: LabelledBatch, batch_index: int) -> None:
        for vectors, learner in zip(self.vectors, _each(self.averages.module), strict=False):
            vectors[batch.rows] = learner.tail(batch.tokens, batch.packed).float().cpu().numpy()

    def on_validation_epoch_end(self) -> None:
        weights = tuple(one.weights() for one in _each(self.averages.module))
        diverged = not all(weight.isfinite().all() for one in weights for weight in one.values())
        loss = np.inf if diverged else self.judge(self.vectors[:, self.cells.judged])
        if not self.losses or loss < min(self.losses):
            self.best = weights
        self.losses.append(loss)
        if len(self.losses) > np.argmin(self.losses) + self.config.patience:
            self.trainer.should_stop = True

    def transfer_batch_to_device(
        self, batch: LabelledBatch, device: torch.device, dataloader_idx: int
    ) -> LabelledBatch:
        return batch  # it is there

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        learners = list(_each(self.learners))
        tails = [weight for one in learners for weight in one.tail.parameters() if weight.requires_grad]
        heads = [weight for one in learners for weight in one.head.parameters()]
        groups = [
            {"params": tails, "lr": self.config.peak_lr, "weight_decay": self.config.weight_decay},
            {"params": heads, "lr": self.config.head_lr, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups)
        warmup = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, self.config.warmup_steps)))
        return {"optimizer": optimizer, "lr_scheduler": warmup}

    def _sent(self, numbers: Int[np.ndarray, " B"]) -> Int64[Tensor, "B"]:
        return torch.from_numpy(numbers).to(self.device)


def fine_tune(
    network: XTrimoGene,
    cells: LabelledCells,
    heads: Sequence[LinearHead],
    config: FineTuneConfig,
    *,
    pool: Pool,
    depth: ReadDepth,
    judge: Judge,
    progress: bool = True,
) -> FineTuned:
    """Tune K + 1 learners until the folds' vectors are judged no better for ``patience`` epochs.

    Parameters
    ----------
    network
        On the device to train on, in evaluation mode; it stays as it is.
    heads
        K + 1, that of all cells last.
    judge
        Given the vectors, returns what is to be as small as can be.
    """
    module = FineTuning(network, cells, heads, config, pool=pool, judge=judge)
    train = CellBatches(network, cells, config, depth, training=True)
    held_out = CellBatches(network, cells, config, depth, training=False)
    device = train.device
    with quiet_lightning(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        trainer = Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=1 if device.index is None or device.type != "cuda" else [device.index],
            precision="bf16-mixed" if uses_bfloat16(config.precision, accelerator=device.type == "cuda") else "32-true",
            max_epochs=config.max_epochs,
            num_sanity_val_steps=-1,  # the answers before the first step
            callbacks=[StepProgress(config.max_epochs * len(train), title="Fine-tuning", shown=progress)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        torch.manual_seed(config.seed)
        trainer.fit(module.train(), train, held_out)
    return FineTuned(weights=module.best, losses=tuple(module.losses))


def _each(learners: nn.Module) -> Iterator[Learner]:
    assert isinstance(learners, nn.ModuleList)
    for learner in learners:
        assert isinstance(learner, Learner)
        yield learner


def _weights(label: Int[np.ndarray, " A"], taught: Bool[np.ndarray, " A"]) -> Float32[np.ndarray, " L"]:
    """Return weights under which labels count alike for a learner that gets these of cells whose labels come in turn.

    A cell's mean weight is 1; of a label without cells it is 0.
    """
    share = np.bincount(label, weights=taught) / np.bincount(label)  # of a label's turns
    weights = np.divide(1, share, out=np.zeros_like(share), where=share > 0)
    return (weights * share.sum() / (share > 0).sum()).astype(np.float32)
