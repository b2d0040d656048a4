"""What the runs of benchmarks/scaling_study.py say: tables, power laws with intervals, differences, a figure.

python benchmarks/scaling_report.py

A law is loss = factor x size ^ -exponent, a line through log losses. Its interval resamples the validation cells, those
of each study by themselves and the same ones for all sizes, and the seeds of each size. All sizes read the same cells
equally often, so that the law of FLOPs holds along that line: it is no law of the best use of a budget.
A difference is of an ablation and the reference of the same seed, cell by cell; its interval resamples cells and seeds.
"By part" are differences at hidden genes that are zero or not, and of cells whose input was thinned or left whole.
"paper_decoder @200" had 200 steps instead of 1,600: the operations of the reference.
Seeds of a run are few: intervals over seeds are somewhat too narrow, and "sd" is their deviation by itself.
"""

import argparse
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scaling_study import REFERENCE, RESULT, SIZES
from studies import VALIDATION, read_results

KINDS = {"held out": ["held out"], "other studies": VALIDATION}
SIZE_KEYS = {"parameters_besides_genes": "weights besides the gene table", "tera_flops": "training FLOPs (10¹²)"}
PARTS = ("zeros", "non-zeros", "thinned cells", "whole cells")
RESAMPLES = 2000
COLOURS = {"held out": "#0072B2", "other studies": "#D55E00"}
Losses = list[Float[np.ndarray, "seeds cells"]]  # one array a study; rows are runs of one name


@dataclass(frozen=True)
class Law:
    exponent: float
    factor: float
    low: float
    high: float

    def at(self, size: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        return self.factor * size**-self.exponent


@dataclass(frozen=True)
class Difference:
    """Of losses: the mean over cells and seeds, its interval, and the deviation of seeds' means."""

    mean: float
    low: float
    high: float
    deviation: float


Laws = dict[tuple[str, str], Law]  # by kind of cells and measure of size
Costs = dict[str, dict[str, Difference]]  # of each ablation, by kind of cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULT)
    parser.add_argument("--figure", type=Path, default=RESULT.with_suffix(".png"))
    options = parser.parse_args()
    results = read_results(options.results)
    fitted, costs = laws(results), differences(results)
    print_runs(results)
    print_laws(fitted)
    print_differences(results, costs)
    draw(results, fitted, costs, options.figure)
    print(options.figure)


def runs_of(results: dict[str, Any], name: str) -> dict[int, dict[str, Any]]:
    """Return the runs of a name by seed."""
    prefix = f"{name} seed="
    return {int(key.removeprefix(prefix)): run for key, run in results.items() if key.startswith(prefix)}


def paired_seeds(results: dict[str, Any], name: str) -> list[int]:
    """Return the seeds under which both a name and the reference have run."""
    return sorted(runs_of(results, name).keys() & runs_of(results, REFERENCE).keys())


def names_of(results: dict[str, Any]) -> list[str]:
    """Return the sizes, small ones first, then the rest in the order of letters."""
    names = {key.split(" seed=")[0] for key in results if " seed=" in key}
    return [name for name in SIZES if name in names] + sorted(names - set(SIZES))


def short(name: str) -> str:
    """Return a run's name as it is printed: those of another number of steps end in it."""
    return name.replace(" num_steps=", " @")


def losses_of(runs: Iterable[dict[str, Any]], kind: str) -> Losses:
    runs = list(runs)
    return [np.array([run["validation"][study]["loss_of_cells"] for run in runs]) for study in KINDS[kind]]


def mean_loss(losses: Losses) -> float:
    """Return the mean over studies of the mean over seeds and cells."""
    return float(np.mean([study.mean() for study in losses]))


def seed_deviation(losses: Losses) -> float:
    by_seed = np.mean([study.mean(1) for study in losses], axis=0)
    return float(by_seed.std(ddof=1)) if len(by_seed) > 1 else float("nan")


def resampled_means(losses: Sequence[Losses], random: np.random.Generator) -> Float[np.ndarray, "N"]:
    """Return one mean a name: cells redrawn for all names alike, seeds for each name by itself."""
    cells = [random.integers(study.shape[1], size=study.shape[1]) for study in losses[0]]
    means = []
    for of_name in losses:
        seeds = random.integers(len(of_name[0]), size=len(of_name[0]))
        means.append(mean_loss([study[np.ix_(seeds, some)] for study, some in zip(of_name, cells, strict=True)]))
    return np.array(means)


def fit_law(sizes: Float[np.ndarray, "N"], losses: Sequence[Losses]) -> Law:
    def line(means: Float[np.ndarray, "N"]) -> tuple[float, float]:
        slope, height = np.polyfit(np.log(sizes), np.log(means), 1)
        return -slope, np.exp(height)

    random = np.random.default_rng(0)
    exponents = [line(resampled_means(losses, random))[0] for _ in range(RESAMPLES)]
    exponent, factor = line(np.array([mean_loss(of_size) for of_size in losses]))
    low, high = np.quantile(exponents, [0.025, 0.975])
    return Law(float(exponent), float(factor), float(low), float(high))


def difference(ours: Losses, reference: Losses) -> Difference:
    pairs = [one - other for one, other in zip(ours, reference, strict=True)]
    random = np.random.default_rng(0)
    means = [resampled_means([pairs], random)[0] for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(mean_loss(pairs), float(low), float(high), seed_deviation(pairs))


def laws(results: dict[str, Any]) -> Laws:
    """Return the law of each kind of cells and each measure of size; none of fewer than three sizes."""
    found = {size: runs for size in SIZES if (runs := runs_of(results, size))}
    if len(found) < 3:
        return {}
    return {
        (kind, key): fit_law(
            np.array([next(iter(runs.values()))[key] for runs in found.values()]),
            [losses_of(runs.values(), kind) for runs in found.values()],
        )
        for kind in KINDS
        for key in SIZE_KEYS
    }


def differences(results: dict[str, Any]) -> Costs:
    """Return what each ablation costs against the reference of the same seeds, by kind of cells."""
    reference = runs_of(results, REFERENCE)
    costs = {}
    for name in names_of(results):
        runs = runs_of(results, name)
        seeds = paired_seeds(results, name)
        if name in SIZES or not seeds:
            continue
        pair = [[of[seed] for seed in seeds] for of in (runs, reference)]
        costs[name] = {kind: difference(losses_of(pair[0], kind), losses_of(pair[1], kind)) for kind in KINDS}
    return costs


def print_runs(results: dict[str, Any]) -> None:
    tasks = list(next((run["macro_f1"] for run in results.values() if "macro_f1" in run), {}))
    print("n seeds; sd over them; weights besides the gene table; F1 by neighbours:")
    print("; ".join(f"({i}) {task}" for i, task in enumerate(tasks, 1)), end="\n\n")
    columns = "".join(f" F1 ({i})" for i in range(1, len(tasks) + 1))
    print(f"{'run':<18}{'n':>2}{'weights':>10}{'TFLOP':>6} held out   sd  others   sd{columns}")
    if "gene mean" in results:
        losses = [mean_loss(losses_of([results["gene mean"]], kind)) for kind in KINDS]
        print(f"{'gene mean':<36}{losses[0]:>7.4f}{losses[1]:>14.4f}")
    for name in names_of(results):
        runs = list(runs_of(results, name).values())
        text = (
            f"{short(name):<18}{len(runs):>2}{runs[0]['parameters_besides_genes']:>10,}{runs[0]['tera_flops']:>6.0f} "
        )
        for kind in KINDS:
            losses = losses_of(runs, kind)
            text += f"{mean_loss(losses):>7.4f}{deviation_text(seed_deviation(losses))} "
        for task in tasks:
            text += f"{np.mean([run['macro_f1'][task] for run in runs]):7.3f}"
        print(text)


def deviation_text(deviation: float) -> str:
    return "     -" if np.isnan(deviation) else f" {deviation:.4f}".replace(" 0.", " .", 1)


def print_laws(fitted: Laws) -> None:
    print()
    for (kind, key), law in fitted.items():
        print(f"{kind}: {law.factor:.3f} x ({SIZE_KEYS[key]})^-{law.exponent:.4f} [{law.low:.4f}, {law.high:.4f}]")


def print_differences(results: dict[str, Any], costs: Costs) -> None:
    if not costs:
        return
    print(f"\n{'loss above ' + REFERENCE:<19}" + "".join(f"{kind:>23}    sd" for kind in KINDS))
    for name, by_kind in costs.items():
        text = f"{short(name):<19}"
        for one in by_kind.values():
            numbers = [f"{number:+.4f}".replace("0.", ".", 1) for number in (one.mean, one.low, one.high)]
            text += "{:>7} [{}, {}]".format(*numbers).rjust(23) + deviation_text(one.deviation)
        print(text)
    print(f"\n{'held out, by part':<19}" + "".join(f"{part:>15}" for part in PARTS))
    for name in costs:
        seeds = paired_seeds(results, name)
        parts, reference = (parts_of_held_out(results, run, seeds) for run in (name, REFERENCE))
        print(f"{short(name):<19}" + "".join(f"{parts[part] - reference[part]:>+15.4f}" for part in PARTS))


def parts_of_held_out(results: dict[str, Any], name: str, seeds: Collection[int]) -> dict[str, float]:
    """Return mean losses over these seeds, at hidden genes of one kind, and of cells of one kind."""
    runs = [run["validation"]["held out"] for seed, run in runs_of(results, name).items() if seed in seeds]
    by_cell = np.mean([run["loss_of_cells"] for run in runs], axis=0)
    thinned = np.array(results["gene mean"]["thinned"]["held out"])
    return {
        "zeros": float(np.mean([run["zero"] for run in runs])),
        "non-zeros": float(np.mean([run["nonzero"] for run in runs])),
        "thinned cells": float(by_cell[thinned].mean()),
        "whole cells": float(by_cell[~thinned].mean()),
    }


def draw(results: dict[str, Any], fitted: Laws, costs: Costs, path: Path) -> None:
    """Draw losses by size with their laws, and what each ablation costs."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplot_mosaic(
        [["held out parameters_besides_genes", "held out tera_flops", "costs"],
         ["other studies parameters_besides_genes", "other studies tera_flops", "costs"]],
        figsize=(12, 6), width_ratios=[1, 1, 1.2], layout="constrained",
    )  # fmt: skip
    for kind in KINDS:
        for key, label in SIZE_KEYS.items():
            axis = axes[f"{kind} {key}"]
            for size in SIZES:
                runs = list(runs_of(results, size).values())
                if not runs:
                    continue
                by_seed = np.mean([study.mean(1) for study in losses_of(runs, kind)], axis=0)
                axis.plot([run[key] for run in runs], by_seed, "o", color=COLOURS[kind], alpha=0.5, markersize=5)
                axis.annotate(
                    size, (runs[0][key], by_seed.max()), xytext=(0, 6), textcoords="offset points", ha="center"
                )
            if law := fitted.get((kind, key)):
                x = np.geomspace(
                    *np.array(sorted(run[key] for s in SIZES for run in runs_of(results, s).values()))[[0, -1]]
                )
                axis.plot(x, law.at(x), color=COLOURS[kind], linewidth=1)
                text = f"exponent {law.exponent:.4f}\n[{law.low:.4f}, {law.high:.4f}]"
                axis.text(0.97, 0.95, text, transform=axis.transAxes, ha="right", va="top")
            axis.set(xscale="log", xlabel=label, ylabel=f"loss, {kind}")
            axis.margins(x=0.12, y=0.2)
            axis.spines[["top", "right"]].set_visible(False)
    draw_costs(axes["costs"], costs)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_costs(axis: Any, costs: Costs) -> None:
    for shift, kind in ((-0.12, "held out"), (0.12, "other studies")):
        found = [of[kind] for of in costs.values()]
        mean = np.array([one.mean for one in found])
        errors = np.array([[one.mean - one.low, one.high - one.mean] for one in found]).T.reshape(2, -1)
        height = np.arange(len(found)) + shift
        axis.errorbar(mean, height, xerr=errors, fmt="o", color=COLOURS[kind], label=kind, capsize=2)
    axis.axvline(0, color="#888888", linewidth=0.8)
    axis.set_yticks(range(len(costs)), [short(name).replace("_", " ") for name in costs])
    axis.invert_yaxis()
    axis.set_xscale("symlog", linthresh=0.01)  # one of them costs a hundred times what others do
    axis.set_xlabel(f"loss more than {REFERENCE}'s (95 % interval)")
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
