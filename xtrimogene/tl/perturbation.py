"""What perturbations do to expression: learned from a screen, predicted for other genes, combinations and contexts."""

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from xtrimogene.checkpoint import PretrainedModel, load, require_new_folder
from xtrimogene.data.counts import InputKind
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import ConfigError, CountsError, GeneMatchError
from xtrimogene.inference import Inference
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.graph_network import GraphConfig, GraphInputs
from xtrimogene.tasks.perturbation.held_out import held_out_figures, verdict_sentence
from xtrimogene.tasks.perturbation.names import all_parts, parts_of
from xtrimogene.tasks.perturbation.part_features import PartFeatures
from xtrimogene.tasks.perturbation.predictor import (
    Method,
    Predictor,
    choose_linear,
    fit_graph,
    inner_splits,
    linear_predictor,
    what_is_asked,
)
from xtrimogene.tasks.perturbation.predictor_folder import SavedPredictor, load_predictor, save_predictor
from xtrimogene.tl.embedding import require_model
from xtrimogene.tl.perturbed_cells import (
    control_genes,
    exact_places,
    read_controls,
    read_graph,
    read_screen,
    rename_parts,
)

MOST_CONTROLS = 200  # control cells of all contexts that gene states are averaged over: seconds for each hundred
UNITS = "log1p of counts per 10,000 of the measured genes"


def fit_perturbation(
    adata: AnnData | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    perturbation_key: str,
    control: str,
    group_key: str | None = None,
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    method: Method = "linear",
    graph: pd.DataFrame | None = None,
    layer: str | None = None,
    input_kind: InputKind = "auto",
    min_cells: int = 10,
    device: str | None = None,
    token_budget: int | None = None,
    min_genes: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Learn what perturbations do, and keep it in a folder for `perturb`.

    Every prediction is the mean of what other perturbations did, and beyond it what perturbations that resemble this
    one did, as far as that served those that were held out. Where it did not, it is the mean, and `perturb` says so.

    Parameters
    ----------
    adata
        Perturbed and control cells x genes, or the path of an .h5ad or .zarr; it is not changed.
    folder
        Must not exist yet, or be an empty folder.
    perturbation_key, control
        The column of ``adata.obs`` that says what was done to each cell, and what it says of control cells. A
        perturbation is a gene, by its exact symbol or Ensembl id, several as "KRAS+TP53" in any order, or another
        name, such as that of a drug (or an alias), which can be predicted in other contexts only. Cells without a name
        are not used.
    group_key
        The column of the context: replicate, cell type, patient. Changes are counted from the control cells of the
        same context. Without it all cells are one.
    method
        "linear": kernel ridge in closed form. "graph": a small network in the manner of GEARS, trained on the effects,
        minutes on a CPU where thousands of genes are measured; it reads the expression of each gene in the context, but
        knows a perturbation by its genes only: of several perturbations in a new context "linear" says far more. Both
        fall back on the training mean.
    graph
        Edges between genes: columns "source", "target" and, if there is one, "weight". Genes that lie near each other
        are expected to do alike when perturbed.
    min_cells
        A perturbation in a context is learned from if it has as many cells, and the context as many control cells.
    model, layer, input_kind, device, token_budget, min_genes
        As in `embed`. The model says which genes resemble each other in the control cells: in the half of them that is
        learned from where held-out perturbations are judged by the other, and in no context that is held out.
    seed
        Deals control cells into halves, and draws those that gene states are averaged over.

    Returns
    -------
    ``folder``: perturbation.json, with what predictions were worth for perturbations, combinations and contexts that
    were held out, beside the training mean, and arrays.safetensors.

    Raises
    ------
    FieldError
        No such column.
    ConfigError
        No cell is called ``control``; no perturbation is left; the graph joins no two genes.
    CountsError
        Too few control cells, or cells, in every context; or as in `embed`.
    GeneMatchError, FileFormatError, CheckpointError
        As in `embed`; the folder exists and holds something.

    Warns
    -----
    UserWarning
        Perturbations that name no gene of the model, or an alias of one; those of too few cells; cells without a name;
        too few control cells to judge by half of them.
    """
    if method not in get_args(Method):
        raise ConfigError(f"method={method!r} is not one of {', '.join(get_args(Method))}.")
    if seed < 0:
        raise ConfigError(f"seed={seed} must be 0 or more.")
    require_new_folder(Path(folder))
    loaded = load(model)
    edges = None if graph is None else read_graph(graph, loaded.genes)
    screen = read_screen(
        adata,
        loaded,
        perturbation_key=perturbation_key,
        control=control,
        group_key=group_key,
        min_cells=min_cells,
        seed=seed,
        reading={"layer": layer, "input_kind": input_kind, "min_genes": min_genes},
    )
    effects = screen.sums.effects()
    warn_of_few(screen.names, effects.perturbation, control, min_cells)
    inference = Inference(loaded, device=device, token_budget=token_budget)
    controls = control_genes(screen, inference, edges, MOST_CONTROLS, seed=seed, progress=progress)
    parts = all_parts(effects.perturbation.tolist())
    places = exact_places(parts, loaded.genes)

    @cache
    def features(contexts: tuple[str, ...]) -> PartFeatures:
        return controls.knowledge(contexts).features(parts, places)

    @cache
    def inputs(contexts: tuple[str, ...]) -> GraphInputs:
        return controls.knowledge(contexts).inputs(parts, places, screen.genes, controls.coexpression(contexts))

    def refit(train: Effects) -> Predictor:
        splits = inner_splits(train, seed)
        if method == "linear":
            known = features(train.context_names)
            return linear_predictor(train, known, choose_linear(train, known, splits))
        fitted = fit_graph(train, inputs(train.context_names), splits, GraphConfig(), seed=seed)
        return Predictor(train=train, fitted=fitted)

    held_out: dict[str, Any] = {}
    try:
        apart = screen.sums.apart()
    except CountsError:
        warnings.warn(
            "There are too few control cells to learn from one half and judge by the other; what predictions are worth "
            "was not tested.",
            UserWarning,
            stacklevel=2,
        )
    else:
        held_out = held_out_figures(*apart, lambda train, names, there: refit(train).predict(names, there))
    splits = inner_splits(effects, seed)
    everywhere, choices, trained = effects.context_names, {}, {}
    if method == "linear":
        choices = choose_linear(effects, features(everywhere), splits)
    else:
        trained = fit_graph(effects, inputs(everywhere), splits, GraphConfig(), seed=seed)
    card = {
        "perturbation_key": perturbation_key,
        "control": control,
        "group_key": group_key,
        "min_cells": min_cells,
        "seed": seed,
        "units": UNITS,
        "model": {"model": loaded.name, "sha256": loaded.sha256},
        "gene_symbols": [loaded.genes.symbols[place] for place in screen.genes],
        "held_out": held_out,
        "verdicts": [verdict_sentence(asked, figures) for asked, figures in held_out.items()],
        "version": version("xtrimogene"),
    }
    saved = SavedPredictor(
        method=method,
        train=effects,
        knowledge=controls.knowledge(everywhere),
        genes=screen.genes,
        coexpression=controls.coexpression(everywhere),
        choices=choices,
        networks={asked: one.network for asked, one in trained.items()},
        card=card,
    )
    return save_predictor(saved, folder)


def perturb(
    adata: AnnData | str | os.PathLike[str],
    predictor: str | os.PathLike[str],
    perturbations: Sequence[str],
    *,
    model: PretrainedModel | str | os.PathLike[str] = "demo",
    group_key: str | None = None,
    layer: str | None = None,
    input_kind: InputKind = "auto",
    min_cells: int = 10,
    min_genes: int = 200,
) -> AnnData:
    """Predict what perturbations would do to control cells: a new AnnData, a perturbation in a context a row.

    Parameters
    ----------
    adata
        Control cells x genes, or the path of an .h5ad or .zarr; it is not changed. Where ``obs`` has the column that
        the predictor was fitted with, only the cells that it calls control are read.
    predictor
        A folder that `fit_perturbation` wrote.
    perturbations
        Genes, or several as "KRAS+TP53" in any order, also such as were never perturbed and are not measured; or other
        names that the predictor has learned.
    model
        That which the predictor was fitted with.
    group_key
        The column of the context; each is predicted by itself, from the mean of its control cells. Without it all are
        one.
    layer, input_kind, min_genes
        As in `embed`.
    min_cells
        Refuse a context with fewer control cells.

    Returns
    -------
    Perturbations x measured genes. ``X``: the predicted change of the mean of a gene's log1p of counts per 10,000 of
    the measured genes. ``layers["expression"]``: the mean that it leads to, which is never below 0. ``obs``: the
    "perturbation", its "context", what is "asked" of the predictor ("context": this perturbation was learned from;
    "combination": its parts were, not together; "perturbation": one of them never was), "seen", the number of its parts
    that were, and, of held-out ones of that kind, "held_out_rmse", the error of a gene's change to expect, and
    "beats_baseline": whether the predictor "beats", "ties" with or "loses" to the training mean (for a combination:
    the sum of its parts; for a context: this perturbation's mean in others), or was "not
    tested", as fewer than six could be held out. ``uns["xtrimogene_perturbation"]`` says how, and that in sentences.

    Raises
    ------
    GeneMatchError
        A part of a perturbation is no gene of the model, and was not learned from; the genes measured hold less than
        90 % of the expression that the predictor's control cells have in its genes.
    ConfigError
        No perturbation, or one named twice; no control cell; no cell of a context.
    CheckpointError
        No such predictor, or one fitted with another model.
    CountsError, FieldError, FileFormatError
        As in `embed`; a context with fewer than ``min_cells`` control cells.
    """
    loaded = load(model)
    saved = load_predictor(predictor)
    require_model(saved.card["model"], loaded, f"{os.fspath(predictor)!r} was fitted with", "fit again")
    asked = ask(perturbations, saved, loaded.genes)
    usual = saved.train.control.mean(axis=0)
    controls = read_controls(
        adata, loaded, saved.card, saved.genes, usual, group_key=group_key, min_cells=min_cells,
        reading={"layer": layer, "input_kind": input_kind, "min_genes": min_genes},
    )  # fmt: skip
    parts = all_parts([*asked.values(), *saved.train.perturbation.tolist()])
    fitted = saved.predictor(parts, exact_places(parts, loaded.genes))
    there = controls.fill(usual)
    names = [name for name in asked.values() for _ in controls.context_names]
    control = np.tile(there, (len(asked), 1))
    change = fitted.predict(names, control)[:, controls.measured].astype(np.float32)
    kinds = what_is_asked(saved.train, names)
    known = set(all_parts(saved.train.perturbation.tolist()))
    held_out: Mapping[str, Any] = saved.card["held_out"]
    obs = pd.DataFrame(
        {
            "perturbation": np.repeat(list(asked), len(controls.context_names)),
            "context": np.tile(controls.context_names, len(asked)),
            "asked": kinds,
            "seen": [f"{len(known.intersection(parts_of(name)))} of {len(parts_of(name))}" for name in names],
            "held_out_rmse": [_error(held_out, kind) for kind in kinds.tolist()],
            "beats_baseline": [
                held_out[kind]["verdict"] if kind in held_out else "not tested" for kind in kinds.tolist()
            ],
        }
    )
    obs.index = (obs["perturbation"] + " in " + obs["context"]).astype(str)
    symbols = np.array(saved.card["gene_symbols"])[controls.measured]
    predicted = AnnData(change, obs=obs, var=pd.DataFrame(index=symbols))
    predicted.layers["expression"] = np.maximum(control[:, controls.measured] + change, 0).astype(np.float32)
    predicted.uns["xtrimogene_perturbation"] = {
        "units": saved.card["units"],
        "control": saved.card["control"],
        "num_controls": controls.num_cells.tolist(),
        "contexts": list(controls.context_names),
        "model": dict(saved.card["model"]),
        "verdicts": list(saved.card["verdicts"]) or ["Nothing could be held out, so nothing is known of its worth."],
        "version": version("xtrimogene"),
    }
    return predicted


def ask(perturbations: Sequence[str], saved: SavedPredictor, genes: GeneVocabulary) -> dict[str, str]:
    """Return what is asked for under the predictor's own names; what neither it nor the model knows is refused."""
    if (
        isinstance(perturbations, str)
        or not len(perturbations)
        or not all(isinstance(one, str) for one in perturbations)
    ):
        raise ConfigError(f"perturbations={perturbations!r}: a list is needed, such as ['KRAS', 'KRAS+TP53'].")
    if again := [name for number, name in enumerate(perturbations) if name in perturbations[:number]]:
        raise ConfigError(f"{again[0]!r} is named twice; give it once.")
    renamed = rename_parts(list(perturbations), saved.card["control"], genes)
    known = set(all_parts(saved.train.perturbation.tolist())).union(genes.symbols)
    for given, name in renamed.items():
        if name == saved.card["control"]:
            raise ConfigError(f"{given!r} is the control, which changes nothing; leave it out.")
        for part in parts_of(name):
            if part not in known:
                raise GeneMatchError(
                    f"{part!r} in {given!r} is no gene of the model's {len(genes):,} and was not learned from; give a "
                    "symbol or an Ensembl id."
                )
    twice = [given for given, name in renamed.items() if list(renamed.values()).count(name) > 1]
    if twice:
        raise ConfigError(f"{' and '.join(map(repr, twice[:2]))} are one perturbation; give it once.")
    return renamed


def warn_of_few(perturbation: np.ndarray, learned: np.ndarray, control: str, min_cells: int) -> None:
    """Warn of perturbations of which no context had enough cells."""
    few = sorted(set(perturbation.tolist()) - set(learned.tolist()) - {control})
    if few:
        warnings.warn(
            f"{len(few):,} perturbations have fewer than {min_cells} cells beside as many control cells and are not "
            f"learned from: {', '.join(few[:5])}{' ...' if len(few) > 5 else ''}.",
            UserWarning,
            stacklevel=3,
        )


def _error(held_out: Mapping[str, Any], kind: str) -> float:
    return float(np.sqrt(held_out[kind]["scores"]["predictor"]["mse"][0])) if kind in held_out else float("nan")
