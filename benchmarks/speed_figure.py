"""Draw what the benchmarks of speed found, for the README.

python benchmarks/speed_figure.py

Left: how many times faster ours is than the same computation written naively, with the target where there is one.
Right: operations a second beside those of torch.mm, measured in the same run; oneDNN's products, which ours are made
of, stand beside it. One thread, process CPU time; each figure is of the machine its file names.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
OURS, LIMIT = "#1f6f8b", "#c2410c"


@dataclass(frozen=True)
class Bar:
    what: str
    value: float
    target: float | None = None


def main() -> None:
    reports = {
        name: json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("embed_100M", "embed_10M", "gene_embed", "linear_attention", "train_step", "end_to_end")
    }
    draw(faster_by(reports), of_gemm(reports), RESULTS / "speed.png")


def faster_by(reports: dict[str, Any]) -> list[Bar]:
    embed, genes, step = reports["embed_100M"], reports["gene_embed"], reports["train_step"]
    attention, encoder = reports["linear_attention"], embed["encoder"]
    favor = attention["attention, reference"]["forward"] / attention["attention, streamed"]["forward"]
    return [
        Bar(
            "counts prepared | loop over pandas rows",
            embed["preparation"]["ours_is_faster_by"],
            embed["targets"]["preparation"],
        ),
        Bar("training step, 3M, our decoder | naive, the paper's", step["steps"]["cross-attention"]["faster_by"]),
        Bar("training step, 3M, the paper's decoder | naive", step["steps"]["ours"]["faster_by"], step["target"]),
        Bar("FAVOR+, 19,266 genes | features made whole", favor, attention["targets"]["attention"]),
        Bar(
            "cell embedding, 100M | padded batches of 32",
            encoder["padded batches"]["ours_is_faster_by"],
            embed["targets"]["padded batches"],
        ),
        Bar(
            "cell embedding, 100M | PyTorch's, cell by cell",
            encoder["cell by cell"]["ours_is_faster_by"],
            embed["targets"]["cell by cell"],
        ),
        Bar("file to cell vectors, demo | a notebook", reports["end_to_end"]["faster_by"]),
        Bar("gene embeddings, scFoundation's shape | naive", genes["all genes"]["faster_by"], genes["target"]),
    ]


def of_gemm(reports: dict[str, Any]) -> list[Bar]:
    cells = [
        Bar(
            f"cell embedding, {shape}", reports[name]["encoder"]["ours"]["of_gemm"], reports[name]["targets"]["of GEMM"]
        )
        for name, shape in (("embed_100M", "12 x 768"), ("embed_10M", "4 x 256"))
    ]
    step, genes = reports["train_step"], reports["gene_embed"]
    return [
        Bar("oneDNN's product", step["onednn_gflops"] / step["gemm_gflops"]),
        *cells,
        Bar("gene embedding, 12 x 768 + 6 x 512", genes["all genes"]["of_gemm"]),
        Bar("training step, 3M, the paper's decoder", step["steps"]["ours"]["of_gemm"]),
        Bar("FAVOR+, 19,266 genes", reports["linear_attention"]["attention, streamed"]["of_gemm"]),
    ]


def draw(faster: list[Bar], shares: list[Bar], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.6), width_ratios=[1.6, 1], layout="constrained")
    draw_bars(left, sorted(faster, key=lambda bar: -bar.value), "{:.1f}x")
    left.set(xscale="log", xlabel="times faster than what is named after the bar", xlim=(1, 1000))
    left.set_xticks([1, 2, 5, 10, 100], ["1", "2", "5", "10", "100"])
    left.minorticks_off()
    draw_bars(right, shares, "{:.2f}")
    right.set(xlabel="times the speed of torch.mm", xlim=(0, 1.15 * max(bar.value for bar in shares)))
    left.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_bars(axis: Any, bars: list[Bar], form: str) -> None:
    heights = range(len(bars))
    axis.barh(heights, [bar.value for bar in bars], color=OURS, height=0.6)
    for height, bar in zip(heights, bars, strict=True):
        text = form.format(bar.value) if bar.value < 100 else f"{bar.value:.0f}x"
        end = max(bar.value, bar.target or 0)
        axis.annotate(text, (end, height), xytext=(5, 0), textcoords="offset points", va="center")
        if bar.target is not None:
            axis.plot([bar.target] * 2, [height - 0.42, height + 0.42], color=LIMIT, linewidth=2)
    axis.plot([], [], color=LIMIT, linewidth=2, label="target")
    axis.set_yticks(heights, [bar.what for bar in bars])
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
