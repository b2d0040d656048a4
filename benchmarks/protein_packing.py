"""How much faster is a protein model on packed rows than on padded ones? Batches of 32 sequences of UniRef90, on a CPU.

python benchmarks/protein_packing.py --data ../shared/data/protein/uniref90_10k.parquet    # about half an hour
python benchmarks/protein_packing.py --data ... --batches 2 --out /tmp/packing.json         # a few minutes

Same weights, same sequences (cut at 1,024), read in both directions. The padded network is written out below: a batch
is as long as its longest sequence, one scaled_dot_product_attention call a layer, with a mask of the keys. Its batches
are drawn at random, as pre-training draws them; "sorted" are neighbours by length of all sequences, which pad little
and are no random sample. Tokens per second are real tokens per second of process CPU time, one thread; the forms
take turns. Logits of the two are compared at every real token.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from embed import describe_machine
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from xtrimogene.protein.config import ProteinConfig
from xtrimogene.protein.network.packed_sequences import PackedSequences
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.network.rotary import Rotation
from xtrimogene.protein.sequences.sequence_files import read_sequences
from xtrimogene.protein.tokenizer import ProteinTokenizer

RESULT = Path(__file__).parent / "results" / "protein_packing.json"
BATCH_SIZE, MAX_LENGTH = 32, 1_024
TOLERANCE, TARGET = 1e-5, 2.0
Batch = list[np.ndarray]


def main() -> None:
    options = read_options()
    torch.set_num_threads(1)
    tokenizer = ProteinTokenizer.xtrimopglm()
    sequences = [
        tokenizer.frame(tokenizer.encode(sequence[: MAX_LENGTH - 1])) for _, sequence in read_sequences(options.data)
    ]
    config = ProteinConfig(dim=options.dim, num_layers=options.layers, num_heads=options.dim // 32)
    network = ProteinLM(config, seed=0)
    random = np.random.default_rng(0)
    drawn = [sequences[i] for i in random.permutation(len(sequences))[: BATCH_SIZE * options.batches]]
    by_length = in_batches(sorted(sequences, key=len))
    neighbours = [by_length[i] for i in random.permutation(len(by_length))[: options.batches]]
    report = {
        "model": {"layers": options.layers, "dim": options.dim},
        "sequences": len(drawn),
        "mean_length": float(np.mean([len(sequence) for sequence in drawn])),
        "random_batches": compare(network, in_batches(drawn)),
        "sorted_batches": compare(
            network, [neighbours[i] for i in random.permutation(len(neighbours))[: options.batches]]
        ),
        "machine": describe_machine(),
    }
    report["passed"] = {
        "logits": report["random_batches"]["largest_difference"] <= TOLERANCE,
        **{name: report["random_batches"]["speedup"][name] >= TARGET for name in ("inference", "training")},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


def in_batches(sequences: Sequence[np.ndarray]) -> list[Batch]:
    return [list(sequences[i : i + BATCH_SIZE]) for i in range(0, len(sequences), BATCH_SIZE)]


def compare(network: ProteinLM, batches: Sequence[Batch]) -> dict[str, object]:
    """Time both forms on each batch, forward alone and with its backward pass; the first batch warms up."""
    forms = {"packed": packed_logits, "padded": padded_logits}
    seconds = {name: dict.fromkeys(forms, 0.0) for name in ("inference", "training")}
    difference = 0.0
    for form in forms.values():
        step(network, form, batches[0][:4])
    for batch in batches:
        with torch.inference_mode():
            logits = {}
            for form, run in forms.items():
                logits[form], spent = timed(lambda run=run, batch=batch: run(network, batch))
                seconds["inference"][form] += spent
        difference = max(difference, (logits["packed"] - logits["padded"]).abs().max().item())
        for form, run in forms.items():
            seconds["training"][form] += timed(lambda run=run, batch=batch: step(network, run, batch))[1]
    tokens = sum(len(sequence) for batch in batches for sequence in batch)
    padded = sum(len(batch) * max(map(len, batch)) for batch in batches)
    return {
        "tokens": tokens,
        "padding": padded / tokens - 1,
        "largest_difference": difference,
        "tokens_per_second": {
            name: {form: tokens / spent for form, spent in each.items()} for name, each in seconds.items()
        },
        "speedup": {name: each["padded"] / each["packed"] for name, each in seconds.items()},
    }


def timed(run: Callable[[], Tensor]) -> tuple[Tensor, float]:
    start = time.process_time()
    return run(), time.process_time() - start


def step(network: ProteinLM, run: Callable[[ProteinLM, Batch], Tensor], batch: Batch) -> Tensor:
    """Leave the gradients of a cross-entropy over all real tokens."""
    network.zero_grad()
    loss = F.cross_entropy(run(network, batch), torch.from_numpy(np.concatenate(batch)))
    loss.backward()
    return loss.detach()


def packed_logits(network: ProteinLM, batch: Batch) -> Tensor:
    return network(PackedSequences.from_ids(batch))


def padded_logits(network: ProteinLM, batch: Batch) -> Tensor:
    """Return the logits of the real tokens, in the order of the packed ones."""
    config, longest = network.config, max(map(len, batch))
    tokens = torch.zeros(len(batch), longest, dtype=torch.int64)
    for row, sequence in zip(tokens, batch, strict=True):
        row[: len(sequence)] = torch.from_numpy(sequence)
    real = torch.arange(longest) < torch.tensor([len(sequence) for sequence in batch])[:, None]  # (B, n)
    places = torch.stack([torch.arange(longest), torch.zeros(longest, dtype=torch.int64)], 1)
    rotation = Rotation.from_positions(places.repeat(len(batch), 1), config.dim // config.num_heads)
    x = network.token_embedding(tokens)  # (B, n, D)
    for block in network.blocks:
        heads = block.attention.qkv(block.attention_norm(x)).unflatten(-1, (3, config.num_heads, -1))
        query, key, value = heads.flatten(0, 1).unbind(1)  # (B n, H, d)
        query, key, value = (
            rows.unflatten(0, (len(batch), longest)).transpose(1, 2)
            for rows in (rotation.turn(query), rotation.turn(key), value)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None])
        x = x + block.attention.out(attended.transpose(1, 2).flatten(2))
        gate, linear = block.expand(block.feed_forward_norm(x)).chunk(2, -1)
        x = x + block.contract(F.gelu(gate) * linear)
    return network.head(network.final_norm(x))[real]


def show(report: dict) -> None:
    table = Table(title=f"{report['sequences']} sequences, {report['mean_length']:.0f} tokens each", box=None)
    for column in ("batches", "pass", "padding", "packed tokens/s", "padded tokens/s", "speedup"):
        table.add_column(column, justify="right")
    for kind in ("random_batches", "sorted_batches"):
        part = report[kind]
        for name, each in part["tokens_per_second"].items():
            speeds = [f"{each[form]:,.0f}" for form in ("packed", "padded")]
            table.add_row(kind.split("_")[0], name, f"{part['padding']:.0%}", *speeds, f"{part['speedup'][name]:.2f} x")
    console = Console()
    console.print(table)
    console.print(f"largest difference of logits: {report['random_batches']['largest_difference']:.1e}")
    console.print(report["passed"])


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="FASTA, or parquet with a column `sequence`")
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
