"""Measure cell embeddings beside PCA, logistic regression on all genes, and random weights.

python benchmarks/embedding_quality.py MODEL --shared ../shared --validation --out results.json
python benchmarks/embedding_quality.py MODEL --shared ../shared --test --out results.json

MODEL is what `xt.load` accepts, or "none" for the baselines alone. --validation reads training studies only and is
where choices are made; --test opens the test studies. Baselines are kept in .cache/embedding_quality and run once.
The Markdown report goes to the standard output, the numbers to --out.
"""

import argparse
import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from xtrimogene import checkpoint
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.counts import find_counts, to_counts
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.evaluation.baseline_cache import cached_baselines
from xtrimogene.evaluation.benchmark_sets import TEST, VALIDATION
from xtrimogene.evaluation.comparison import TaskResult, compare
from xtrimogene.evaluation.report import as_dict, to_markdown
from xtrimogene.evaluation.tasks import SEEDS, Study, TaskPlan, build_task
from xtrimogene.inference import Inference
from xtrimogene.long_work import whole_file
from xtrimogene.model.xtrimogene import XTrimoGene

Embed = Callable[[Study], Float[np.ndarray, "B P"]]
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    options = read_options()
    model = None if options.model == "none" else load(options)
    genes = GeneVocabulary.human() if model is None else model.genes
    embedders: dict[str, Sequence[Embed]] = {} if model is None else {options.name: [embed_with(model, options)]}
    if model is not None and not options.no_random_weights:
        fresh = [PretrainedModel(XTrimoGene(model.config, seed=seed), model.genes) for seed in SEEDS]
        embedders["random weights"] = [embed_with(one, options) for one in fresh]
    plans = [plan for plan in (TEST if options.test else VALIDATION) if re.search(options.task, plan.name)]
    began = time.perf_counter()
    results = evaluate(embedders, genes, plans, options.shared / "data", options.cache)
    print(to_markdown(results))
    if options.out is not None:
        facts = {"model": options.model, "sha256": model.sha256 if model else "", "genes": genes.sha256}
        facts |= {"sets": "test" if options.test else "validation", "seconds": round(time.perf_counter() - began, 1)}
        options.out.write_text(json.dumps(facts | as_dict(results), indent=1) + "\n")


def load(options: argparse.Namespace) -> PretrainedModel:
    """Load the model, with another pooling or read depth if asked, so that these can be chosen."""
    model = checkpoint.load(options.model)
    chosen = {name: getattr(options, name) for name in ("pool", "read_depth") if getattr(options, name)}
    network = XTrimoGene(dataclasses.replace(model.config, **chosen))
    network.load_state_dict(model.network.state_dict())
    return dataclasses.replace(model, network=network.eval().requires_grad_(False))


def evaluate(
    embedders: Mapping[str, Sequence[Embed]],
    genes: GeneVocabulary,
    plans: Sequence[TaskPlan],
    folder: Path,
    cache: Path,
) -> list[TaskResult]:
    """Run the plans; each embedder reads each study once. The first name is judged, the others are baselines."""
    names = dict.fromkeys(source.study for plan in plans for source in plan.sources)
    studies = {name: read_study(folder / f"{name}.h5ad", genes) for name in names}
    placed = {
        (features, number, study.name): embed(study)
        for features, by_seed in embedders.items()
        for number, embed in enumerate(by_seed)
        for study in studies.values()
    }
    results = []
    for plan in plans:
        task = build_task(plan, studies)
        embeddings = {
            features: [
                task.gather({name: placed[features, number, name] for name in names}) for number in range(len(by_seed))
            ]
            for features, by_seed in embedders.items()
        }
        results.append(compare(task, embeddings, cached_baselines(task, cache)))
    return results


def read_study(path: Path, genes: GeneVocabulary) -> Study:
    with open_cells(path) as cells:
        choice = find_counts(cells)
        match = genes.match(cells.gene_columns(choice.matrix))
        counts = match.apply(to_counts(cells.block(choice.matrix, 0, cells.num_cells), choice))
        obs = {key: np.array(cells.obs[key].astype(str).tolist()) for key in cells.obs.columns}
    return Study(name=path.stem, counts=counts, measured=match.measured, obs=obs)


def embed_with(model: PretrainedModel, options: argparse.Namespace) -> Embed:
    """Embed a study once: deep cells take a while, so a stopped run goes on where it was."""
    digest = hashlib.sha256(repr((model.config, model.genes.sha256)).encode())
    for name, tensor in model.network.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    inference = Inference(model, device=options.device)

    def embed(study: Study) -> Float[np.ndarray, "B P"]:
        place = options.cache / "embeddings" / f"{digest.hexdigest()[:24]}-{study.name}.npy"
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            vectors = inference.cell_embeddings(study.counts)
            with whole_file(place) as scratch:
                np.save(scratch, vectors)
        return np.load(place, allow_pickle=False)

    return embed


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    sets = parser.add_mutually_exclusive_group()
    sets.add_argument("--validation", action="store_true", help="training studies only (the default)")
    sets.add_argument("--test", action="store_true", help="the test studies")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="folder that holds data/")
    parser.add_argument("--task", default="", help="only tasks whose name fits this regular expression")
    parser.add_argument("--name", default="model", help="what the report calls the model")
    parser.add_argument("--device", default=None)
    parser.add_argument("--pool", default=None, help="default: the model's own")
    parser.add_argument("--read-depth", default=None, help="default: the model's own")
    parser.add_argument("--no-random-weights", action="store_true", help="leave out the network with random weights")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "embedding_quality")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
