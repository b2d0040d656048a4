"""Three sizes at two budgets, MLM and CLM, and CLM before MLM: the whole way from sequences to a law, in small.

python benchmarks/protein_study.py --out benchmarks/results/protein_study.json --figure study.png

9,500 of 10,000 UniRef90 sequences (3 million residues) are trained on and 500 held out. Models of thousands of
parameters on minutes of a CPU core say nothing of what is compute-optimal: this shows that the pieces fit together.
Every run has a budget of 6ND; the loss is that of held-out sequences, the same letters hidden for all. "after_clm" is
MLM from the CLM model of the smaller budget, beside MLM from scratch with the same MLM budget and with that of both.
Runs are written to --out as they come, and the same command goes on with those that are not there.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from embed import describe_machine
from embedding_quality import ROOT

from xtrimogene.long_work import whole_file
from xtrimogene.protein.config import ObjectiveStage, ProteinConfig, ProteinPretrainConfig
from xtrimogene.protein.network.parameters import transformer_parameters
from xtrimogene.protein.scaling_laws.isoflop import fit_isoflop
from xtrimogene.protein.scaling_laws.law_text import law_text
from xtrimogene.protein.sequences.sequence_store import SequenceStore
from xtrimogene.protein.tokenizer import ProteinTokenizer
from xtrimogene.protein.training.held_out import held_out_loss
from xtrimogene.protein.training.run import pretrain

SIZES = ((2, 48, 2), (3, 96, 3), (4, 160, 5))  # layers, width, heads
BUDGETS = (5e11, 2e12)
TRANSFERRED = 1  # of the sizes
STEP, MAX_LENGTH, HELD_OUT = 2_048, 512, 500
SEEDS = (0, 1, 2)


def main() -> None:
    options = read_options()
    folder = options.runs
    folder.mkdir(parents=True, exist_ok=True)
    held_out = prepare(options.shared / "data" / "protein" / "uniref90_10k.parquet", folder)
    report: dict[str, Any] = {"machine": describe_machine(), "runs": {}}
    if options.out.exists():
        report = json.loads(options.out.read_text())
    for seed in SEEDS[: options.seeds]:
        for name, config, facts in planned(folder, seed):
            if name in report["runs"]:
                continue
            began = time.perf_counter()
            model = pretrain(config)
            loss = held_out_loss(model.network, model.tokenizer, held_out, replace(config.stages[0], num_steps=1))
            report["runs"][name] = {**facts, "loss": loss, "seconds": round(time.perf_counter() - began, 1)}
            print(name, report["runs"][name], flush=True)
            report["summary"] = summarize(report["runs"])
            with whole_file(options.out) as scratch:
                scratch.write_text(json.dumps(report, indent=1) + "\n")
    if options.figure is not None:
        draw(report["runs"], options.figure)
    print(json.dumps(report["summary"], indent=1))


def prepare(table: Path, folder: Path) -> SequenceStore:
    """Write the training sequences to the folder, and return the others."""
    sequences = pd.read_parquet(table)
    (column,) = (
        name for name in sequences if str(sequences[name].iloc[0]).isupper() and len(sequences[name].iloc[0]) > 9
    )
    kept = np.random.default_rng(0).permutation(len(sequences)) < len(sequences) - HELD_OUT
    for name, rows in (("train", kept), ("held_out", ~kept)):
        sequences[rows].to_parquet(folder / f"{name}.parquet")
    tokenizer = ProteinTokenizer.xtrimopglm()
    return SequenceStore.from_files([str(folder / "held_out.parquet")], tokenizer, max_length=MAX_LENGTH)


def planned(folder: Path, seed: int) -> list[tuple[str, ProteinPretrainConfig, dict[str, Any]]]:
    """Return the runs of a seed: name, config, and what is written of it."""
    runs = []
    for budget in BUDGETS:
        for size in range(len(SIZES)):
            for objective in ("mlm", "clm"):
                runs.append(run(folder, seed, objective, size, budget))
    first = runs[2 * TRANSFERRED + 1]
    runs.append(run(folder, seed, "mlm", TRANSFERRED, BUDGETS[1], start=first[0]))
    runs.append(run(folder, seed, "mlm", TRANSFERRED, sum(BUDGETS)))
    return runs


def run(
    folder: Path, seed: int, objective: str, size: int, budget: float, start: str | None = None
) -> tuple[str, ProteinPretrainConfig, dict[str, Any]]:
    num_layers, dim, num_heads = SIZES[size]
    num_parameters = transformer_parameters(num_layers, dim)
    num_steps = round(budget / (6 * num_parameters * STEP))
    name = f"{objective}{'_after_clm' if start else ''}_{num_layers}x{dim}_{budget:g}_seed{seed}"
    config = ProteinPretrainConfig(
        files=(str(folder / "train.parquet"),),
        output=str(folder / name),
        stages=(ObjectiveStage(num_steps=num_steps, **{objective: 1.0}),),
        model=ProteinConfig(dim=dim, num_layers=num_layers, num_heads=num_heads, max_length=MAX_LENGTH),
        initialize_from=None if start is None else str(folder / start / "model"),
        tokens_per_step=STEP,
        peak_lr=2e-3,
        checkpoint_every=1_000,
        log_every=200,
        seed=seed,
    )
    facts = {
        "seed": seed,
        "objective": objective,
        "start": "scratch" if start is None else "clm",
        "shape": f"{num_layers}x{dim}",
        "num_parameters": num_parameters,
        "flops": budget,
        "num_tokens": num_steps * STEP,
    }
    return name, config, facts


def summarize(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return mean losses and their standard deviation over seeds, and the laws of what there is."""
    table = pd.DataFrame(runs.values())
    keys = ["objective", "start", "shape", "flops"]
    losses = table.groupby(keys)["loss"].agg(["mean", "std", "count"]).reset_index()
    found: dict[str, Any] = {"losses": losses.replace({np.nan: None}).to_dict("records"), "laws": {}}
    for objective in ("mlm", "clm"):
        mine = grid(table, objective)
        if len(mine) >= len(SIZES) * len(BUDGETS):
            law = fit_isoflop(
                *(mine[name].to_numpy(float) for name in ("flops", "num_parameters", "loss")),
                name=f"study:{objective}",
                objective=objective,
                data="9,500 UniRef90 sequences",
                minimum="raw",  # three sizes: a parabola would go through every loss
            )
            found["laws"][objective] = law_text(law)
    return found


def grid(table: pd.DataFrame, objective: str) -> pd.DataFrame:
    """Return the runs from scratch at the two budgets, means over seeds."""
    mine = table[(table.objective == objective) & (table.start == "scratch") & table.flops.isin(BUDGETS)]
    return mine.groupby(["flops", "num_parameters"], as_index=False)["loss"].mean()


def draw(runs: dict[str, dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    import xtrimogene as xt

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for ax, objective in zip(axes, ("mlm", "clm"), strict=True):
        mine = grid(pd.DataFrame(runs.values()), objective)
        columns = [mine[name].to_numpy(float) for name in ("flops", "num_parameters", "loss")]
        xt.pl.isoflop(*columns, ax=ax, title=objective.upper())
    figure.savefig(path, dpi=110)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="folder that holds data/")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "protein_study", help="where runs are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
