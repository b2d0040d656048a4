"""How many operations does a cell take? In closed form, per preset, beside models that read every gene.

python benchmarks/flops.py [--num-genes 19264] [--expressed 1500]

The closed form equals torch's own counter on the reference kernels within 1 % (tests/model/test_flops.py).
"""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from xtrimogene.config import MaskingConfig
from xtrimogene.model.flops import cell_embedding_flops, dense_flops, gene_embedding_flops, training_step_flops
from xtrimogene.presets import PRESETS, model_config

RESULT = Path(__file__).parent / "results" / "flops.json"
COLUMNS = {
    "cell_embedding": "cell embedding",
    "gene_embedding": "gene embedding",
    "training_step": "training step",
    "dense_transformer": "dense transformer",
    "dense_performer": "dense Performer",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-genes", type=int, default=19_264)
    parser.add_argument("--expressed", type=int, default=1_500, help="expressed genes of a cell")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    rows = {preset: count(preset, options.num_genes, options.expressed) for preset in PRESETS}

    table = Table(
        "GFLOP a cell", *COLUMNS.values(), title=f"{options.expressed:,} of {options.num_genes:,} genes expressed"
    )
    for preset, row in rows.items():
        table.add_row(preset, *(f"{row[column]:,.1f}" for column in COLUMNS))
    Console().print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    setting = {"num_genes": options.num_genes, "expressed": options.expressed, "unit": "GFLOP a cell"}
    options.out.write_text(json.dumps({**setting, "presets": rows}, indent=1) + "\n")


def count(preset: str, num_genes: int, expressed: int) -> dict[str, float]:
    config, masking = model_config(preset, num_genes), MaskingConfig()
    num_masked = round(masking.nonzero_fraction * expressed)
    num_hidden = num_masked + round(masking.zero_fraction * (num_genes - expressed))
    flops = {
        "cell_embedding": cell_embedding_flops(config, expressed + 2),
        "gene_embedding": gene_embedding_flops(config, expressed + 2),
        "training_step": training_step_flops(config, expressed - num_masked + 2, num_hidden),
        "dense_transformer": dense_flops(config, "softmax"),
        "dense_performer": dense_flops(config, "performer"),
    }
    return {name: round(value / 1e9, 3) for name, value in flops.items()}


if __name__ == "__main__":
    main()
