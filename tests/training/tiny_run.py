"""A run of a tiny model in a process of its own: `python tiny_run.py CONFIG.json [--devices N] [--workers N]`.

The processes of several devices are forked here, to import once; with --launched Lightning starts them.

Each --kill-after STEP is a process before that: it ends itself by SIGKILL as soon as that step is done, or, with
--kill-in-write STEP, in the middle of writing the checkpoint of that step. They go by their steps, and the last process
runs to the end. The number of processes that were killed is printed.
"""

import argparse
import json
import logging
import os
import signal
import socket
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import DecoderConfig, EncoderConfig, ModelConfig, PretrainConfig, from_dict
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.presets import PRESETS
from xtrimogene.training.lightning_module import Pretraining
from xtrimogene.training.run import is_first_process, pretrain

GENES = GeneVocabulary(tuple(f"GENE{i}" for i in range(250)), ("",) * 250)


def tiny(num_genes: int) -> ModelConfig:
    return ModelConfig(
        num_genes=num_genes,
        encoder=EncoderConfig(dim=8, num_layers=1, num_heads=2, dropout=0.1),
        decoder=DecoderConfig(dim=4, num_layers=1, num_heads=1, num_features=4),
        num_bins=4,
        latent_dim=3,
    )


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after(step: int) -> None:
    ended = Pretraining.training_step

    def training_step(self: Pretraining, *batch: Any) -> None:
        ended(self, *batch)
        if self.global_step == step:
            kill()

    Pretraining.training_step = training_step  # type: ignore[method-assign]


def kill_in_write(step: int) -> None:
    save = Trainer.save_checkpoint

    def save_checkpoint(self: Trainer, path: Path, **options: Any) -> None:
        if self.global_step == step:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"PK half a checkpoint")
            kill()
        save(self, path, **options)

    Trainer.save_checkpoint = save_checkpoint  # type: ignore[method-assign]


def dies(prepare: Callable[[], None], run: Callable[[], object]) -> bool:
    """Run in a child, which has all imports already; True where SIGKILL ended it."""
    child = os.fork()
    if child == 0:
        prepare()
        run()
        os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fork_ranks(number: int) -> list[int]:
    """Become rank 0 of so many processes, and return the others, or become one of these, and return none."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "LOCAL_RANK": "0"}
    children: list[int] = []
    for rank in range(1, number):
        children.append(os.fork())
        if children[-1] == 0:
            os.environ["LOCAL_RANK"] = str(rank)
            rank_zero_only.rank = rank
            return []
    return children


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--launched", action="store_true")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--strategy", default="ddp")
    parser.add_argument("--die-after", type=int, help="as --kill-after, with no process after it; for all devices")
    parser.add_argument("--kill-after", type=int, nargs="*", default=[])
    parser.add_argument("--kill-in-write", type=int, nargs="*", default=[])
    options = parser.parse_args(arguments)
    PRESETS["tiny"] = tiny
    GeneVocabulary.human = classmethod(lambda cls: GENES)  # type: ignore[method-assign,assignment]
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    config = from_dict(PretrainConfig, json.loads(options.config.read_text()))

    forked = fork_ranks(options.devices) if options.devices > 1 and not options.launched else []
    if options.die_after is not None:
        kill_after(options.die_after)

    def run() -> PretrainedModel:
        return pretrain(
            config,
            num_devices=options.devices,
            num_nodes=options.nodes,
            num_workers=options.workers,
            strategy=options.strategy,
        )

    plan = [(step, kill_after) for step in options.kill_after] + [
        (step, kill_in_write) for step in options.kill_in_write
    ]
    print(sum(dies(partial(how, step), run) for step, how in sorted(plan, key=lambda kill: kill[0])))
    trained = run()
    if is_first_process():
        torch.save(trained.network.state_dict(), Path(config.output) / "weights.pt")
    for child in forked:
        assert os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    main()
