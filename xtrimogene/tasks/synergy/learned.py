"""What is learned of a response table: networks that read structure and expression, and effects of what was seen.

The answer is the mean of both: effects know a drug, a line and a combination by its rows and say nothing of a new one,
the networks carry over what is alike. Letters: N rows; D drugs; F bits; L lines; C width of a line's vector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor, nn

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.synergy.baselines import Effects
from xtrimogene.tasks.synergy.network import DrugView, ResponseNetwork
from xtrimogene.tasks.synergy.response_table import DrugSet, ResponseRows

BLOCK = 1 << 16  # rows answered at once
Progress = Callable[[int], None]  # called with the number of networks just trained


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponseConfig:
    """How networks are made and trained; the defaults were chosen inside training rows of O'Neil 2016."""

    drug_view: DrugView = "fingerprint"
    width: int = 64
    graph_layers: int = 2
    dropout: float = 0.05
    num_epochs: int = 40
    batch_size: int = 1024
    learning_rate: float = 4e-3
    weight_decay: float = 0.3
    num_networks: int = 3
    effects: bool = True

    def __post_init__(self) -> None:
        if self.drug_view not in get_args(DrugView):
            raise ConfigError(f"drug_view={self.drug_view!r} is none of {', '.join(get_args(DrugView))}.")
        for name in ("width", "graph_layers", "num_epochs", "batch_size", "num_networks"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1.")
        if not 0 <= self.dropout < 1 or self.learning_rate <= 0 or self.weight_decay < 0:
            raise ConfigError("dropout must be in [0, 1), learning_rate above 0 and weight_decay not below.")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Learned:
    """Networks, how their inputs are scaled, and effects; ``bits`` are those that differ among the drugs seen."""

    config: ResponseConfig
    labels: bool
    bits: Bool[np.ndarray, " F"]
    cell_mean: Float32[np.ndarray, " C"]
    cell_scale: Float32[np.ndarray, " C"]
    target_mean: float
    target_scale: float
    networks: tuple[ResponseNetwork, ...]
    effects: Effects | None

    @classmethod
    def fit(
        cls,
        rows: ResponseRows,
        drugs: DrugSet,
        cells: Float32[np.ndarray, "L C"],
        config: ResponseConfig,
        *,
        labels: bool,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> "Learned":
        """Learn from rows with a target; of drugs and lines, only those in the rows are looked at."""
        bits = drugs.fingerprints[np.unique(rows.drugs)].std(axis=0) > 0
        seen = cells[np.unique(rows.lines)]
        spread = seen.std(axis=0)
        usual = (0.0, 1.0) if labels else (float(rows.target.mean()), float(rows.target.std()) or 1.0)
        made = cls(
            config=config,
            labels=labels,
            bits=bits if config.drug_view != "graph" else np.zeros_like(bits),
            cell_mean=seen.mean(axis=0),
            cell_scale=np.where(spread > 1e-6, spread, np.inf).astype(np.float32),  # what never varied says nothing
            target_mean=usual[0],
            target_scale=usual[1],
            networks=(),
            effects=None,
        )
        networks = []
        for member in range(config.num_networks):
            networks.append(made._train(rows, drugs, cells, seed + 1000 * member))
            if progress is not None:
                progress(1)
        effects = None
        if config.effects:
            effects = Effects.fit(rows, num_drugs=len(drugs.smiles), num_lines=len(cells), labels=labels, combined=True)
        kept = {name: getattr(made, name) for name in ("bits", "cell_mean", "cell_scale", "target_mean")}
        return cls(
            **kept,
            config=config,
            labels=labels,
            target_scale=made.target_scale,
            networks=tuple(networks),
            effects=effects,
        )

    def predict(
        self, rows: ResponseRows, drugs: DrugSet, cells: Float32[np.ndarray, "L C"]
    ) -> Float32[np.ndarray, " N"]:
        """Return log odds of a label, or a value, for each row."""
        return self._with_effects(self.network_answers(rows, drugs, cells).mean(axis=0), rows)

    def network_answers(
        self, rows: ResponseRows, drugs: DrugSet, cells: Float32[np.ndarray, "L C"]
    ) -> Float32[np.ndarray, "M N"]:
        """Return what each network says, without effects."""
        inputs = self._inputs(drugs, cells)
        drug, line = torch.from_numpy(rows.drugs), torch.from_numpy(rows.lines)
        blocks = list(zip(torch.split(drug, BLOCK), torch.split(line, BLOCK), strict=True))
        with torch.inference_mode():
            said = [torch.cat([network(*own, *inputs) for own in blocks]).numpy() for network in self.networks]
        return np.stack(said) * np.float32(self.target_scale) + np.float32(self.target_mean)

    def _with_effects(self, said: Float32[np.ndarray, " N"], rows: ResponseRows) -> Float32[np.ndarray, " N"]:
        return said if self.effects is None else (said + self.effects.predict(rows)) / np.float32(2)

    def new_network(self) -> ResponseNetwork:
        view = self.config.drug_view
        return ResponseNetwork(
            num_bits=int(self.bits.sum()),
            graph_layers=0 if view == "fingerprint" else self.config.graph_layers,
            cell_dim=len(self.cell_mean),
            width=self.config.width,
            dropout=self.config.dropout,
        )

    def _inputs(self, drugs: DrugSet, cells: Float32[np.ndarray, "L C"]) -> tuple[Tensor, object, Tensor]:
        scaled = (cells - self.cell_mean) / self.cell_scale
        graphs = None if self.config.drug_view == "fingerprint" else drugs.graphs
        bits = torch.from_numpy(np.ascontiguousarray(drugs.fingerprints[:, self.bits]))
        return bits, graphs, torch.from_numpy(scaled.astype(np.float32))

    def _train(
        self, rows: ResponseRows, drugs: DrugSet, cells: Float32[np.ndarray, "L C"], seed: int
    ) -> ResponseNetwork:
        config, number = self.config, len(rows)
        batch = min(config.batch_size, number)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.new_network()
            optimizer = torch.optim.AdamW(
                network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
            )
            steps = max(4, config.num_epochs * (number // batch) + 1)
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer,
                config.learning_rate,
                total_steps=steps,
                pct_start=max(0.1, 2 / steps),  # it cannot rise within one step
                cycle_momentum=False,
            )
            inputs = self._inputs(drugs, cells)
            drug, line = torch.from_numpy(rows.drugs), torch.from_numpy(rows.lines)
            target = torch.from_numpy((rows.target - np.float32(self.target_mean)) / np.float32(self.target_scale))
            loss = nn.functional.binary_cross_entropy_with_logits if self.labels else nn.functional.mse_loss
            for _ in range(config.num_epochs):
                order = torch.randperm(number)
                for first in range(0, number - batch + 1, batch):
                    own = order[first : first + batch]
                    optimizer.zero_grad()
                    loss(network(drug[own], line[own], *inputs), target[own]).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
        return network.eval().requires_grad_(False)
