"""Turn a finished pre-training run into the demo model of the package: its card, its defaults, float16 weights.

The demo model is the first of three runs under three seeds; the figures on its card are those of all three. Choices are
made on the validation sets; the last line is the second line again, for the card to take up the figures.

for seed in 0 1 2; do xtrimogene pretrain data/demo_model.toml --seed $seed --output runs/demo-$seed; done
python data/build_demo_model.py runs/demo-0/model --pool latent
python benchmarks/embedding_quality.py runs/demo-?/model --validation --out benchmarks/results/demo_validation.json
python benchmarks/embedding_quality.py runs/demo-?/model --test --out benchmarks/results/demo_test.json
python data/build_demo_model.py runs/demo-0/model --pool latent
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from xtrimogene.checkpoint import PretrainedModel, load, save
from xtrimogene.model.xtrimogene import XTrimoGene

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "xtrimogene" / "assets" / "demo"
RESULTS = ROOT / "benchmarks" / "results"
LIMITS = (
    "The gene decoder was trained on 6,400 cells: gene embeddings and expression through the decoder are weak. "
    "Cell vectors do not tell three lung cancer lines apart across platforms (sc_mixology), which PCA does."
)


def main() -> None:
    options = read_options()
    trained = load(options.model)
    network = XTrimoGene(replace(trained.config, pool=options.pool))
    network.load_state_dict(trained.network.state_dict())
    card = {
        "name": "xtrimogene demo",
        "description": "A small xTrimoGene of human cells, made on one CPU core to show what the package does.",
        "licence": "BSD-3-Clause",
        "intended_use": "Demonstration, tests and teaching. Not for clinical use.",
        "limits": LIMITS,
        **{key: value for key, value in trained.card.items() if key != "name"},
        "metrics": {
            sets: read_metrics(RESULTS / f"demo_{sets}.json", trained.sha256) for sets in ("validation", "test")
        },
    }
    with tempfile.TemporaryDirectory(dir=DEMO.parent) as scratch:
        demo = PretrainedModel(network, trained.genes, card, cell_hashes=trained.cell_hashes)
        built = save(demo, Path(scratch) / "demo", dtype=torch.float16)
        shutil.rmtree(DEMO, ignore_errors=True)
        built.replace(DEMO)
    print(f"{DEMO}: {sum(file.stat().st_size for file in DEMO.iterdir()) / 1e6:.1f} MB")


def read_metrics(path: Path, sha256: str) -> Any:
    """What the benchmark found, by task; a word where it has not run on this model."""
    written = json.loads(path.read_text()) if path.is_file() else {"sha256": []}
    if written["sha256"][:1] != [sha256]:
        return "not measured"
    macro_f1 = {
        task["task"]: {" ".join(filter(None, score["method"].values())): score["macro_f1"] for score in task["scores"]}
        for task in written["tasks"]
    }
    spaces = {task["task"]: task["spaces"] for task in written["tasks"]}
    return {"macro_f1": macro_f1, "clusters_and_mixing": spaces, "summary": written["summary"]}


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--pool", required=True, choices=["all", "max", "mean", "latent"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
