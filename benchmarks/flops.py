"""How many operations does a cell take? In closed form, per preset, beside models that read every gene.

python benchmarks/flops.py [--num-genes 19264] [--expressed 1500]

The closed form equals torch's own counter on the reference kernels within 1 % (tests/model/test_flops.py).
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from xtrimogene.config import MaskingConfig
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.model.flops import cell_embedding_flops, dense_flops, gene_embedding_flops, training_step_flops
from xtrimogene.presets import PRESETS, model_config
from xtrimogene.training import read_config
from xtrimogene.training.workload import visible_and_hidden

RESULT = Path(__file__).parent / "results" / "flops.json"
DEMO_RUN = Path(__file__).parents[1] / "data" / "demo_model.toml"
COLUMNS = {
    "cell_embedding": "cell embedding",
    "gene_embedding": "gene embedding",
    "training_step": "training step",
    "paper_gene_embedding": "gene embedding, paper's decoder",
    "paper_training_step": "step, paper's decoder",
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
    trained = count_as_trained(DEMO_RUN, options.expressed)
    print(f"A training step of the demo model, as {DEMO_RUN.name} runs it: {trained:,.1f} GFLOP a cell")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    setting = {"num_genes": options.num_genes, "expressed": options.expressed, "unit": "GFLOP a cell"}
    options.out.write_text(
        json.dumps({**setting, "presets": rows, "demo_training_step_as_run": trained}, indent=1) + "\n"
    )


def count(preset: str, num_genes: int, expressed: int) -> dict[str, float]:
    config, masking = model_config(preset, num_genes), MaskingConfig()
    paper = replace(config, decoder=replace(config.decoder, kind="performer"))
    num_visible, num_hidden = visible_and_hidden(masking, num_genes, expressed)
    flops = {
        "cell_embedding": cell_embedding_flops(config, expressed + 2),
        "gene_embedding": gene_embedding_flops(config, expressed + 2),
        "training_step": training_step_flops(config, num_visible + 2, num_hidden),
        "paper_gene_embedding": gene_embedding_flops(paper, expressed + 2),
        "paper_training_step": training_step_flops(paper, num_visible + 2, num_hidden),
        "dense_transformer": dense_flops(config, "softmax"),
        "dense_performer": dense_flops(config, "performer"),
    }
    return {name: round(value / 1e9, 3) for name, value in flops.items()}


def count_as_trained(path: Path, expressed: int) -> float:
    """Return GFLOP a cell of a step under a run's masking, decoder share and latent loss, over our own genes."""
    run, num_genes = read_config(path), len(GeneVocabulary.human())
    num_visible, num_hidden = visible_and_hidden(run.masking, num_genes, expressed)
    lane_cells = run.batch_size // run.sampling.num_lanes
    flops = training_step_flops(
        model_config(run.preset, num_genes, run.model),
        num_visible + 2,
        num_hidden,
        num_cells=lane_cells,
        num_decoded=math.ceil(run.decoder_share * lane_cells),
        latent=run.latent_weight > 0,
    )
    return round(flops / 1e9, 3)


if __name__ == "__main__":
    main()
