"""The learned predictor, in the manner of GEARS (Roohani et al., Nature Biotechnology 2024).

A gene's state is its mean context embedding in control cells, averaged over its neighbours in a graph, with its
expression in the context. The parts of a perturbation are embedded by themselves and added up, so that single genes,
combinations and genes that were never perturbed are one case. Their sum is added to the state of every gene, and one
small decoder, shared by all genes, reads the change beyond the training mean. Its last layer begins at 0, and training
ends where effects that are held out are predicted best: at worst, before it began, with the training mean.
Letters: E effects; Q effects asked for; P parts; M genes; D width of a state; W width of the network.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from xtrimogene.evaluation.splits import Split
from xtrimogene.tasks.perturbation.baselines import training_mean
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.names import parts_of

_BATCH_FLOATS = 2**22  # of the widest activation, effects x genes x width


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphConfig:
    width: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    max_epochs: int = 60
    patience: int = 8  # epochs without a better one, on held-out effects
    num_folds: int = 3  # of held-out effects that say when to stop


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GraphInputs:
    """States of the measured genes, smoothed, and of every part that may be asked, zeros for what is no gene."""

    gene_states: Float[np.ndarray, "M D"]
    parts: tuple[str, ...]
    part_states: Float[np.ndarray, "P D"]
    gene_of_part: Mapping[str, int]  # where a part is a measured gene: its own expression is what is perturbed

    def members(self, names: Sequence[str]) -> Float[Tensor, "Q P"]:
        place = {part: number for number, part in enumerate(self.parts)}
        member = torch.zeros(len(names), len(self.parts))
        for row, name in enumerate(names):
            member[row, [place[part] for part in parts_of(name)]] = 1
        return member

    def is_target(self, names: Sequence[str]) -> Float[Tensor, "Q M"]:
        target = torch.zeros(len(names), len(self.gene_states))
        for row, name in enumerate(names):
            target[row, [self.gene_of_part[part] for part in parts_of(name) if part in self.gene_of_part]] = 1
        return target


class EffectNetwork(nn.Module):
    """Reads the change beyond the training mean from gene states, contexts and perturbations."""

    def __init__(self, state_dim: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.gene = nn.Linear(state_dim, width)
        self.context = nn.Linear(3, width, bias=False)  # expression, the training mean there, is the gene perturbed
        self.part = nn.Sequential(nn.Linear(state_dim, width), nn.GELU(), nn.Linear(width, width))
        self.decoder = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        for parameter in self.decoder[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        gene_states: Float[Tensor, "M D"],
        part_states: Float[Tensor, "P D"],
        members: Float[Tensor, "Q P"],
        there: Float[Tensor, "Q M 3"],
    ) -> Float[Tensor, "Q M"]:
        perturbation = members @ self.part(part_states)  # (Q, W)
        state = self.gene(gene_states) + self.context(there) + perturbation[:, None]  # (Q, M, W)
        change: Tensor = self.decoder(state)
        return change.squeeze(-1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GraphPredictor:
    """A trained network beside what it needs of its training effects."""

    network: EffectNetwork
    inputs: GraphInputs
    train: Effects
    num_epochs: int

    @classmethod
    def fit(
        cls, train: Effects, inputs: GraphInputs, splits: Sequence[Split], config: GraphConfig, *, seed: int = 0
    ) -> "GraphPredictor":
        """Train for as many epochs as serve the held-out effects of a few of these splits best, 0 included."""
        errors = [_held_out_errors(train, inputs, split, config, seed) for split in splits[: config.num_folds]]
        shortest = min((len(one) for one in errors), default=1)
        num_epochs = int(np.sum([one[:shortest] for one in errors], axis=0).argmin()) if errors else 0
        network = new_network(inputs, config.width, seed)
        for _ in _epochs(network, train, inputs, config, num_epochs, seed):
            pass
        return cls(network=network, inputs=inputs, train=train, num_epochs=num_epochs)

    def predict(self, names: Sequence[str], control: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q M"]:
        """Return the change by each perturbation in a context of this mean control expression."""
        return _predict(self.network, self.train, self.inputs, names, control)


def new_network(inputs: GraphInputs, width: int, seed: int) -> EffectNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EffectNetwork(inputs.gene_states.shape[1], width)


def _held_out_errors(
    train: Effects, inputs: GraphInputs, split: Split, config: GraphConfig, seed: int
) -> Float[np.ndarray, " epochs"]:
    """Mean squared error of the held-out effects before the first epoch and after every one, until it falls no more."""
    known, _ = train.rows(split.train).apart()
    asked, truth = train.rows(split.test).apart()
    names, control = asked.perturbation.tolist(), asked.control[asked.context]
    network, errors = new_network(inputs, config.width, seed), []
    for _ in _epochs(network, known, inputs, config, config.max_epochs, seed):
        errors.append(float(((_predict(network, known, inputs, names, control) - truth) ** 2).mean()))
        if len(errors) > config.patience + int(np.argmin(errors)):
            break
    return np.array(errors)


def _epochs(
    network: EffectNetwork, train: Effects, inputs: GraphInputs, config: GraphConfig, number: int, seed: int
) -> Iterator[None]:
    """Train, and yield before the first epoch and after every one."""
    names = train.perturbation.tolist()
    center = training_mean(train, names)
    left = torch.from_numpy(train.change - center).float()
    weight = torch.from_numpy(train.num_cells / train.num_cells.mean()).float()[:, None]
    there = _there(train, inputs, names, train.control[train.context], center)
    members, genes, parts = inputs.members(names), _tensor(inputs.gene_states), _tensor(inputs.part_states)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    random = np.random.default_rng(seed)
    size = _batch_size(inputs, config.width)
    yield
    for _ in range(number):
        order = random.permutation(len(names))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            predicted = network(genes, parts, members[rows], there[rows])
            loss = (weight[rows] * (predicted - left[rows]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield


def _predict(
    network: EffectNetwork, train: Effects, inputs: GraphInputs, names: Sequence[str], control: Float[np.ndarray, "Q M"]
) -> Float[np.ndarray, "Q M"]:
    center = training_mean(train, names)
    there, members = _there(train, inputs, names, control, center), inputs.members(names)
    genes, parts = _tensor(inputs.gene_states), _tensor(inputs.part_states)
    size = _batch_size(inputs, network.width)
    with torch.inference_mode():
        blocks = [
            network(genes, parts, members[start : start + size], there[start : start + size])
            for start in range(0, len(names), size)
        ]
    return center + torch.cat(blocks).double().numpy()


def _there(
    train: Effects,
    inputs: GraphInputs,
    names: Sequence[str],
    control: Float[np.ndarray, "Q M"],
    center: Float[np.ndarray, "Q M"],
) -> Float[Tensor, "Q M 3"]:
    """Return a gene's expression beside its usual one, its mean change, and whether it is itself perturbed."""
    beside = _tensor(control - train.control.mean(axis=0))
    return torch.stack([beside, _tensor(center), inputs.is_target(names)], dim=-1)


def _batch_size(inputs: GraphInputs, width: int) -> int:
    return max(1, _BATCH_FLOATS // (len(inputs.gene_states) * width))


def _tensor(array: Float[np.ndarray, "*shape"]) -> Float[Tensor, "*shape"]:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
