"""Fine-tuning as a LightningModule: the last layers of an encoder learn to tell labels apart.

What is tuned answers too surely for the cells it learned from, so every cell is also read by layers that did not:
K + 1 tails stand on one network, one for each of K folds of the cells, which never learns from that fold, and one for
all cells. The network below them is run once for all. After each epoch each fold's tail is asked for the fold's cells,
and all tails stop where these answers are best together, which may be before the first step.

Heads begin with given weights, as fresh ones would at first pull the layers anywhere (Kumar et al., Fine-tuning can
distort pretrained features, 2022). Where there are batches, each cell is drawn to the mean of its label in the other
batches as well (of its label, as batches differ in their labels).

Letters: A cells; B of a batch; G genes; L labels; R batches; P width of a cell's vector; K folds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from lightning import LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from scipy.sparse import csr_matrix, diags
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from xtrimogene.config import FineTuneConfig, Pool, ReadDepthConfig, uses_bfloat16
from xtrimogene.data.packed_cells import PackedCells, pack_cells
from xtrimogene.data.read_depth import ReadDepth, downsample_counts
from xtrimogene.model.tail import Tail
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.quiet_lightning import quiet_lightning
from xtrimogene.training.step_progress import StepProgress

NO_LABEL = -1e4  # the bias of a label that a fold has no cell of
MEMORY = 0.9  # of a running mean, for each cell that it takes in
Judge = Callable[[Float32[np.ndarray, "A L"]], float]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledCells:
    """Cells to learn from, each with a label, a fold and, where batches are to look alike, a batch, by number.

    ``vectors`` are what the network makes of the cells before it is tuned.
    """

    counts: csr_matrix  # A x G
    vectors: Float[np.ndarray, "A P"]
    label: Int[np.ndarray, " A"]
    fold: Int[np.ndarray, " A"]
    batch: Int[np.ndarray, " A"] | None = None

    def taught(self, number: int) -> Bool[np.ndarray, " A"]:
        """Say which cells tail ``number`` learns from: all but its fold's, the last tail from all."""
        return self.fold != number

    def means(self, number: int, num_labels: int) -> Float[np.ndarray, "L R P"]:
        """Return the mean vector of each label in each batch that tail ``number`` learns from, NaN of none."""
        num_batches = 0 if self.batch is None else int(self.batch.max()) + 1
        means = np.full((num_labels, num_batches, self.vectors.shape[1]), np.nan)
        for label, batch in np.ndindex(num_labels, num_batches):
            rows = self.taught(number) & (self.label == label) & (self.batch == batch)
            if rows.any():
                means[label, batch] = self.vectors[rows].mean(axis=0)
        return means


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LinearHead:
    """A head, which reads vectors less ``center``, over ``scale``; a label without cells has `NO_LABEL`."""

    center: Float[np.ndarray, " P"]
    scale: Float[np.ndarray, " P"]
    weight: Float[np.ndarray, "L P"]
    bias: Float[np.ndarray, " L"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FineTuned:
    """The weights of each fold's tail, its head and, last, those of all cells, after the best number of epochs.

    ``losses``: what the judge said before the first epoch and after each.
    """

    weights: tuple[dict[str, Tensor], ...]
    heads: tuple[LinearHead, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """Rows of the matrix, the cells packed from them, and what the layers below the tails make of these."""

    rows: Int[np.ndarray, " B"]
    packed: PackedCells
    tokens: Float[Tensor, "N D"]

    def where(self, chosen: Bool[np.ndarray, " B"]) -> "LabelledBatch":
        """Return the cells chosen."""
        rows = self.packed.rows_of(chosen)
        return LabelledBatch(self.rows[chosen], self.packed.where(chosen), self.tokens[rows])


class CellBatches:
    """Cells in batches, on the network's device: for training shuffled and thinned anew each time, else by length."""

    def __init__(
        self, network: XTrimoGene, cells: LabelledCells, config: FineTuneConfig, depth: ReadDepth, *, training: bool
    ) -> None:
        self.network, self.counts, self.config, self.depth = network, cells.counts, config, depth
        self.random = np.random.default_rng(config.seed) if training else None
        self.num_passes = -(-config.cells_per_epoch // len(cells.label)) if training else 1
        self.device = next(network.parameters()).device
        in_bfloat16 = uses_bfloat16(config, accelerator=self.device.type == "cuda")
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=in_bfloat16)

    def __len__(self) -> int:
        return self.num_passes * -(-self.counts.shape[0] // self.config.batch_size)

    def __iter__(self) -> Iterator[LabelledBatch]:
        number, size = self.counts.shape[0], self.config.batch_size
        for _ in range(self.num_passes):
            by_length = np.argsort(np.diff(self.counts.indptr), kind="stable")
            order = by_length if self.random is None else self.random.permutation(number)
            for start in range(0, number, size):
                yield self._read(order[start : start + size])

    def _read(self, rows: Int[np.ndarray, " B"]) -> LabelledBatch:
        counts = self.counts[rows]
        if self.random is not None:
            counts = thin(counts, self.config.read_depth, self.random)
        packed = pack_cells(counts)
        packed = self.network.append_read_depth(packed, *self.depth.tokens(packed.totals)).to(self.device)
        with torch.no_grad(), self.autocast:
            return LabelledBatch(rows, packed, self.network.encode_below(packed, self.config.num_layers))


def thin(counts: csr_matrix, config: ReadDepthConfig, random: np.random.Generator) -> csr_matrix:
    """Thin cells as pre-training does; fractions are rounded up or down by chance, and a cell keeps a total above 1."""
    whole = np.floor(counts.data + random.random(len(counts.data))).astype(np.float32)
    thinned = downsample_counts(csr_matrix((whole, counts.indices, counts.indptr), counts.shape), config, random)
    kept = np.asarray(thinned.sum(axis=1)).ravel() > 1
    return (diags(kept.astype(np.float32)) @ thinned + diags((~kept).astype(np.float32)) @ counts).tocsr()


class Learner(nn.Module):
    """A tail, and the head that reads labels off its vectors.

    ``means`` are running ones of each label's vectors in each batch, and NaN where a batch lacks the label.
    """

    center: Tensor  # (P,)
    scale: Tensor
    label_weights: Tensor  # (L,)
    means: Tensor  # (L, R, P)

    def __init__(
        self,
        network: XTrimoGene,
        head: LinearHead,
        config: FineTuneConfig,
        *,
        pool: Pool,
        label_weights: Float32[np.ndarray, " L"],
        means: Float[np.ndarray, "L R P"],
    ) -> None:
        super().__init__()
        self.config = config
        self.tail = Tail(network, pool, num_layers=config.num_layers)
        num_labels, width = head.weight.shape
        self.head = nn.Linear(width, num_labels, device="meta").to_empty(device="cpu")  # draws no random number
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(head.weight))
            self.head.bias.copy_(torch.from_numpy(head.bias))
        means = (means - head.center) / head.scale
        arrays = {"center": head.center, "scale": head.scale, "label_weights": label_weights, "means": means}
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array).float())

    def scores(self, cells: LabelledBatch) -> Float[Tensor, "B L"]:
        return self.head(self._vectors(cells))

    def loss(
        self, cells: LabelledBatch, label: Int64[Tensor, "B"], batch: Int64[Tensor, "B"] | None
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy and, of batches, squared distance, labels weighted to equal total weight."""
        vectors = self._vectors(cells)  # (B, P)
        each = F.cross_entropy(self.head(vectors).float(), label, reduction="none")
        if batch is not None:
            target = self._of_other_batches(label, batch)  # (B, P), NaN where no other batch has the label
            apart = (vectors.float() - torch.where(target.isnan(), vectors.detach().float(), target)).square()
            each = each + 0.5 * self.config.batch_weight * apart.mean(dim=1)
            self._follow(vectors.detach().float(), label, batch)
        return (each * self.label_weights[label]).mean()

    def learned(self) -> tuple[dict[str, Tensor], LinearHead]:
        """Return copies of the tail's weights and of the head."""
        weights = {name: weight.to("cpu", copy=True) for name, weight in self.tail.weights().items()}
        arrays = (self.center, self.scale, self.head.weight, self.head.bias)
        center, scale, weight, bias = (array.detach().cpu().double().numpy() for array in arrays)
        return weights, LinearHead(center=center, scale=scale, weight=weight, bias=bias)

    def _of_other_batches(self, label: Int64[Tensor, "B"], batch: Int64[Tensor, "B"]) -> Float[Tensor, "B P"]:
        means = self.means[label]  # (B, R, P)
        means[torch.arange(len(label), device=label.device), batch] = torch.nan
        return means.nanmean(dim=1)

    def _follow(self, vectors: Float[Tensor, "B P"], label: Int64[Tensor, "B"], batch: Int64[Tensor, "B"]) -> None:
        place = label * self.means.shape[1] + batch
        number = torch.bincount(place, minlength=self.means[..., 0].numel())  # (L R,)
        sums = torch.zeros_like(self.means).flatten(0, 1).index_add(0, place, vectors)  # (L R, P)
        kept = MEMORY ** number[:, None]
        new = kept * self.means.flatten(0, 1) + (1 - kept) * sums / number.clamp(min=1)[:, None]
        self.means.copy_(torch.where(number[:, None] > 0, new, self.means.flatten(0, 1)).view_as(self.means))

    def _vectors(self, cells: LabelledBatch) -> Float[Tensor, "B P"]:
        return (self.tail(cells.tokens, cells.packed) - self.center) / self.scale


class FineTuning(LightningModule):
    """``judge`` is given the scores of every cell by its own fold's learner, and says how bad they are."""

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
                label_weights=_weights(cells.label[cells.taught(number)], num_labels),
                means=cells.means(number, num_labels),
            )
            for number, head in enumerate(heads)
        )
        averaged = get_ema_multi_avg_fn(config.averaging)  # type: ignore[no-untyped-call]
        self.averages = AveragedModel(self.learners, multi_avg_fn=averaged).requires_grad_(False)
        self.scores = np.zeros((len(cells.label), num_labels), dtype=np.float32)
        self.losses: list[float] = []
        self.best: tuple[tuple[dict[str, Tensor], LinearHead], ...] = ()

    def training_step(self, batch: LabelledBatch, batch_index: int) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        optimizer.zero_grad()
        for number, learner in enumerate(_each(self.learners)):
            chosen = self.cells.taught(number)[batch.rows]
            if chosen.any():
                rows = batch.rows[chosen]
                batches = None if self.cells.batch is None else self._sent(self.cells.batch[rows])
                self.manual_backward(learner.loss(batch.where(chosen), self._sent(self.cells.label[rows]), batches))
                torch.nn.utils.clip_grad_norm_(learner.parameters(), self.config.gradient_clip)
        for group, rate in zip(optimizer.param_groups, self._rates(), strict=True):
            group["lr"] = rate * min(1.0, (self.global_step + 1) / max(1, self.config.warmup_steps))
        optimizer.step()
        self.averages.update_parameters(self.learners)

    def validation_step(self, batch: LabelledBatch, batch_index: int) -> None:
        fold = self.cells.fold[batch.rows]
        for number, learner in enumerate(_each(self.averages.module)):
            chosen = fold == number
            if chosen.any():
                self.scores[batch.rows[chosen]] = learner.scores(batch.where(chosen)).float().cpu().numpy()

    def on_validation_epoch_end(self) -> None:
        loss = self.judge(self.scores)
        if not self.losses or loss < min(self.losses):
            self.best = tuple(one.learned() for one in _each(self.averages.module))
        self.losses.append(loss)
        if len(self.losses) > np.argmin(self.losses) + self.config.patience:
            self.trainer.should_stop = True

    def transfer_batch_to_device(
        self, batch: LabelledBatch, device: torch.device, dataloader_idx: int
    ) -> LabelledBatch:
        return batch  # it is there

    def configure_optimizers(self) -> torch.optim.AdamW:
        learners = list(_each(self.learners))
        tails = [weight for one in learners for weight in one.tail.parameters() if weight.requires_grad]
        heads = [weight for one in learners for weight in one.head.parameters()]
        groups = [{"params": tails, "weight_decay": self.config.weight_decay}, {"params": heads, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups)

    def _rates(self) -> tuple[float, float]:
        return self.config.peak_lr, self.config.head_lr

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
    """Tune K + 1 tails until the cells held out are answered no better for ``patience`` epochs.

    Parameters
    ----------
    network
        On the device to train on, in evaluation mode; it stays as it is.
    heads
        K + 1, that of all cells last.
    judge
        Given the A x L scores of held-out cells, returns what is to be as small as can be.
    """
    module = FineTuning(network, cells, heads, config, pool=pool, judge=judge)
    train = CellBatches(network, cells, config, depth, training=True)
    held_out = CellBatches(network, cells, config, depth, training=False)
    device = train.device
    with quiet_lightning(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trainer = Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=1 if device.index is None or device.type != "cuda" else [device.index],
            precision="bf16-mixed" if uses_bfloat16(config, accelerator=device.type == "cuda") else "32-true",
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
    weights, found = zip(*module.best, strict=True)
    return FineTuned(weights=weights, heads=found, losses=tuple(module.losses))


def _each(learners: nn.Module) -> Iterator[Learner]:
    assert isinstance(learners, nn.ModuleList)
    for learner in learners:
        assert isinstance(learner, Learner)
        yield learner


def _weights(label: Int[np.ndarray, " A"], num_labels: int) -> Float32[np.ndarray, " L"]:
    """Return weights under which labels have equal total weight, and cells a mean one of 1."""
    number = np.bincount(label, minlength=num_labels)
    return (len(label) / np.maximum(number, 1) / (number > 0).sum()).astype(np.float32)
