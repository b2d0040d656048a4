"""Measure cell embeddings beside PCA, logistic regression on all genes, and random weights.

python benchmarks/embedding_quality.py MODEL... --shared ../shared --validation --out results.json
python benchmarks/embedding_quality.py MODEL... --shared ../shared --test --out results.json

MODEL is what `xt.load` accepts: one, or one for each of the three seeds (the same run under other seeds); none for the
baselines alone. --validation reads training studies only and is where choices are made; --test opens the test studies.
Baselines are kept in .cache/embedding_quality and run once. On a few cores OMP_NUM_THREADS=1 is many times faster.
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
from jaxtyping import Float, Int

from xtrimogene import checkpoint
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.evaluation.baseline_cache import cached_baselines
from xtrimogene.evaluation.benchmark_sets import TEST, VALIDATION
from xtrimogene.evaluation.comparison import TaskResult, compare
from xtrimogene.evaluation.task_tables import as_dict, to_markdown
from xtrimogene.evaluation.tasks import SEEDS, Study, Task, TaskPlan, build_task
from xtrimogene.inference import Inference
from xtrimogene.long_work import whole_file
from xtrimogene.model.xtrimogene import XTrimoGene

Embed = Callable[[Study, Int[np.ndarray, " n"]], Float[np.ndarray, "B P"]]
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    options = read_options()
    models = [load(name, options) for name in options.models]
    if len(models) not in (0, 1, len(SEEDS)) or len({model.genes.sha256 for model in models}) > 1:
        raise SystemExit(f"Give one model or {len(SEEDS)} with the same genes; got {', '.join(options.models)}.")
    genes = models[0].genes if models else GeneVocabulary.human()
    embedders: dict[str, Sequence[Embed]] = {}
    if models:
        embedders[options.name] = [embed_with(model, options) for model in models]
    if models and options.untrained:
        fresh = [PretrainedModel(XTrimoGene(models[0].config, seed=seed), genes) for seed in SEEDS[: options.untrained]]
        embedders["random weights"] = [embed_with(one, options) for one in fresh]
    plans = [plan for plan in (TEST if options.test else VALIDATION) if re.search(options.task, plan.name)]
    began = time.perf_counter()
    results = evaluate(embedders, genes, plans, options.shared / "data", options.cache)
    print(to_markdown(results))
    if options.out is not None:
        facts: dict[str, object] = {"sha256": [model.sha256 for model in models], "genes": genes.sha256}
        facts |= {"sets": "test" if options.test else "validation", "seconds": round(time.perf_counter() - began, 1)}
        options.out.write_text(json.dumps(facts | as_dict(results), indent=1) + "\n")


def load(name: str, options: argparse.Namespace) -> PretrainedModel:
    """Load a model, with another pooling or read depth if asked, so that these can be chosen."""
    model = checkpoint.load(name)
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
    studies, tasks, needed = read_tasks(plans, genes, folder)
    placed = {
        (features, number, name): embed(study, needed[name])
        for features, by_seed in embedders.items()
        for number, embed in enumerate(by_seed)
        for name, study in studies.items()
    }
    results = []
    for task in tasks:
        embeddings = {
            features: [
                task.gather({name: placed[features, number, name] for name in studies})
                for number in range(len(by_seed))
            ]
            for features, by_seed in embedders.items()
        }
        results.append(compare(task, embeddings, cached_baselines(task, cache)))
    return results


def read_tasks(
    plans: Sequence[TaskPlan], genes: GeneVocabulary, folder: Path
) -> tuple[dict[str, Study], list[Task], dict[str, Int[np.ndarray, " n"]]]:
    """Return the studies of the plans by name, the tasks, and the cells of each study that some task reads."""
    names = dict.fromkeys(source.study for plan in plans for source in plan.sources)
    studies = {name: read_study(folder / f"{name}.h5ad", genes) for name in names}
    tasks = [build_task(plan, studies) for plan in plans]
    needed = {name: np.unique(np.concatenate([task.rows[task.studies == name] for task in tasks])) for name in names}
    return studies, tasks, needed


def read_study(path: Path, genes: GeneVocabulary) -> Study:
    with open_cells(path) as cells:
        matched = MatchedCounts.find(cells, genes)
        counts = matched.all()
        obs = {key: np.array(cells.obs[key].astype(str).tolist()) for key in cells.obs.columns}
    return Study(name=path.stem, counts=counts, measured=matched.match.measured, obs=obs)


def embed_with(model: PretrainedModel, options: argparse.Namespace) -> Embed:
    """Embed rows of a study once (NaN elsewhere): deep cells take a while, so a stopped run goes on where it was."""
    digest = hashlib.sha256(repr((model.config, model.genes.sha256)).encode())
    for name, tensor in model.network.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    inference = Inference(model, device=options.device)

    def embed(study: Study, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "B P"]:
        read = hashlib.sha256(rows.astype("<i8").tobytes())
        for array in (study.counts.data, study.counts.indices, study.counts.indptr, study.measured):
            read.update(array.tobytes())
        place = options.cache / "embeddings" / f"{digest.hexdigest()[:24]}-{study.name}-{read.hexdigest()[:8]}.npy"
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            vectors = np.full((study.counts.shape[0], inference.embedding_dim()), np.nan, dtype=np.float32)
            vectors[rows] = inference.cell_embeddings(study.counts[rows])
            with whole_file(place) as scratch:
                np.save(scratch, vectors)
        return np.load(place, allow_pickle=False)

    return embed


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", metavar="MODEL", nargs="*")
    sets = parser.add_mutually_exclusive_group()
    sets.add_argument("--validation", action="store_true", help="training studies only (the default)")
    sets.add_argument("--test", action="store_true", help="the test studies")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="folder that holds data/")
    parser.add_argument("--task", default="", help="only tasks whose name fits this regular expression")
    parser.add_argument("--name", default="model", help="what the report calls the model")
    parser.add_argument("--device", default=None)
    parser.add_argument("--pool", default=None, help="default: the model's own")
    parser.add_argument("--read-depth", default=None, help="default: the model's own")
    parser.add_argument("--untrained", type=int, choices=(0, 1, 3), default=3, help="networks with random weights")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "embedding_quality")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
