"""What benchmarks/scaling_study.py tries in place of parts of the network: other value embeddings, another loss.

Letters: N values, M hidden genes, D encoder width, E decoder width, K classes.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from xtrimogene.config import ModelConfig, PretrainConfig
from xtrimogene.model.initialization import initialize
from xtrimogene.model.value_embedding import ValueEmbedding
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.lightning_module import Pretraining

BIN_WIDTH, NUM_CLASSES = 0.5, 20  # of log1p values; class 0 is zero
RIDGE = 1e-5


class RoundedValues(ValueEmbedding):
    """A learned row for each whole number: the bins of scBERT."""

    def forward(self, values: Float[Tensor, "N"]) -> Float[Tensor, "N D"]:
        return self.bins[values.round().long().clamp(max=len(self.bins) - 1)]


class RawValues(ValueEmbedding):
    """A line: the value times a learned row, plus another."""

    def forward(self, values: Float[Tensor, "N"]) -> Float[Tensor, "N D"]:
        return values[:, None] * self.bins[0] + self.bins[1]


class ClassHead(nn.Linear):
    """Scores of the bins of a value; what it predicts is their mean, which is best for squared errors."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, NUM_CLASSES)

    def forward(self, x: Float[Tensor, "M E"]) -> Float[Tensor, "M"]:
        middles = BIN_WIDTH * (torch.arange(NUM_CLASSES, device=x.device) - 0.5).clamp(min=0)  # (K,)
        return self.scores(x).softmax(-1) @ middles

    def scores(self, x: Float[Tensor, "M E"]) -> Float[Tensor, "M K"]:
        return super().forward(x)


class Classification(Pretraining):
    def decoder_error(
        self, genes: Float[Tensor, "M E"], offsets: Float[Tensor, "M"], targets: Float[Tensor, "M"]
    ) -> Float[Tensor, ""]:
        """Cross entropy, in nats; a study's offset has no meaning here."""
        head = self.network.head
        assert isinstance(head, ClassHead)
        return F.cross_entropy(head.scores(genes).float(), classes_of(targets), reduction="sum")

    def fit_head(self, genes: Float[Tensor, "M E"], targets: Float[Tensor, "M"]) -> None:
        """Logistic regression of the classes, from their frequencies."""
        head, classes = self.network.head, classes_of(targets)
        assert isinstance(head, ClassHead)
        shares = (classes.bincount(minlength=NUM_CLASSES) + 1.0) / (len(classes) + NUM_CLASSES)
        with torch.no_grad():
            head.weight.zero_()
            head.bias.copy_(shares.log())
        search = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            search.zero_grad()
            decay = RIDGE * head.weight.square().sum()
            loss = F.cross_entropy(head.scores(genes.detach()), classes) + decay
            loss.backward()
            return loss

        search.step(closure)  # type: ignore[arg-type]
        search.zero_grad()


def classes_of(values: Float[Tensor, "M"]) -> Int64[Tensor, "M"]:
    return (values / BIN_WIDTH).ceil().long().clamp(max=NUM_CLASSES - 1)


def build(model: ModelConfig, run: PretrainConfig, measured: Bool[np.ndarray, "R G"], part: str) -> Pretraining:
    """Return the module that trains a fresh network of this kind, with another part in place of its own."""
    network = XTrimoGene(model, seed=None)
    if part in VALUES:
        network.value_embedding = VALUES[part](model.encoder.dim, model.num_bins, model.bin_alpha)
        network.value_embedding.to_bins.requires_grad_(False)
        network.value_embedding.mix_bins.requires_grad_(False)
    if part == "classification":
        network.head = ClassHead(model.decoder.dim)  # type: ignore[assignment]
    with torch.no_grad():
        initialize(network, run.seed)
    return (Classification if part == "classification" else Pretraining)(network, run, measured)


VALUES = {"rounded_values": RoundedValues, "raw_values": RawValues}
