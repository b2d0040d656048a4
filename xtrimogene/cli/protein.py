"""Protein language models: protein plan, fit, pretrain, embed, score, generate."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from xtrimogene.cli.app import app
from xtrimogene.cli.arguments import Device, columns_and_texts
from xtrimogene.cli.outputs import check_target
from xtrimogene.errors import ConfigError

Folder = Annotated[Path, typer.Option("--model", "-m", help="The folder of a protein model, from pretrain.")]

protein = typer.Typer(
    name="protein", help="Protein language models: what to train with a budget, and training it.", no_args_is_help=True
)
app.add_typer(protein)


@protein.command(epilog="Example:  xtrimogene protein plan --gpu-hours 2000 --gpu H100")
def plan(
    flops: Annotated[float | None, typer.Option(help="The budget in operations, 6 a parameter and token; or:")] = None,
    gpu_hours: Annotated[float | None, typer.Option(help="The budget in hours of all GPUs together.")] = None,
    objective: Annotated[
        Literal["mlm", "clm", "clm->mlm", "both"],
        typer.Option(help="clm->mlm: one model, CLM first; both: two models of one size."),
    ] = "mlm",
    gpu: Annotated[str, typer.Option(help="A100-40, A100-80, H100, H200, L40S or RTX-4090.")] = "H100",
    mfu: Annotated[float, typer.Option(help="Share of the GPU's bfloat16 peak that 6ND gets; assumed.")] = 0.4,
    num_gpus: Annotated[int, typer.Option(help="How many share the work and the memory.")] = 1,
    law: Annotated[str | None, typer.Option(help="By name or .json file. Default: Cheng et al. 2024.")] = None,
    max_unique_tokens: Annotated[
        float | None, typer.Option(help="How many tokens there are; more are repeated.")
    ] = None,
    first_share: Annotated[
        float | None, typer.Option(help="clm->mlm: of the tokens, those for CLM. Default: .15.")
    ] = None,
    balance: Annotated[
        Literal["laws", "tokens"], typer.Option(help="tokens: as many as the budget leaves, C / 6N.")
    ] = "laws",
    out: Annotated[Path | None, typer.Option(help="Write the plan to this .json file too.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out where it exists.")] = False,
) -> None:
    """Say what protein language model a budget trains best, and how."""
    if out is not None:
        check_target(Path(law or "no law"), out, overwrite, ".json")
    from xtrimogene.protein.planning.model_plan import write_plan
    from xtrimogene.protein.planning.plan import plan as plan_model

    planned = plan_model(
        flops,
        objective,
        gpu_hours=gpu_hours,
        gpu=gpu,
        mfu=mfu,
        num_gpus=num_gpus,
        law=law,
        max_unique_tokens=max_unique_tokens,
        first_share=first_share,
        balance=balance,
    )
    typer.echo(planned)
    if out is not None:
        write_plan(planned, out)


@protein.command(epilog="Example:  xtrimogene protein fit runs.csv --objective mlm --out law.json")
def fit(
    runs: Annotated[Path, typer.Argument(metavar="RUNS.csv", help="A row for each run, or point of a training curve.")],
    out: Annotated[Path, typer.Option(help="The .json file to write the law to, for `protein plan --law`.")],
    objective: Annotated[Literal["mlm", "clm"], typer.Option(help="What the runs were trained with.")],
    method: Annotated[
        Literal["isoflop", "envelope", "parametric"],
        typer.Option(help="isoflop: sizes at each of a few budgets; envelope: training curves; parametric: L(N, D)."),
    ] = "isoflop",
    minimum: Annotated[
        Literal["parabola", "raw"] | None,
        typer.Option(help="isoflop: a parabola's vertex (the default), or the best run of each budget."),
    ] = None,
    least_squares: Annotated[
        Literal["log", "linear"] | None, typer.Option(help="isoflop: of logarithms (the default), or of N and D.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="envelope: the column that names the run of a point.")] = None,
    flops: Annotated[str, typer.Option(help="The column of the compute.")] = "flops",
    num_parameters: Annotated[str, typer.Option(help="The column of N, without embeddings.")] = "num_parameters",
    num_tokens: Annotated[str, typer.Option(help="The column of D; without one, C / 6N.")] = "num_tokens",
    loss: Annotated[str, typer.Option(help="The column of the validation loss, nats a token.")] = "loss",
    where: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=TEXT", help="Only rows with this text; may be repeated.")
    ] = None,
    data: Annotated[str, typer.Option(help="What the runs were trained on, for the record.")] = "own data",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out where it exists.")] = False,
) -> None:
    """Fit a scaling law to your own runs, and say whether they pin it down."""
    check_target(runs, out, overwrite, ".json")
    for option, value, of in (
        ("--minimum", minimum, "isoflop"),
        ("--least-squares", least_squares, "isoflop"),
        ("--run", run, "envelope"),
    ):
        if value is not None and method != of:
            raise ConfigError(f"{option} is of --method {of}; leave it out for {method}.")
    from xtrimogene.protein.scaling_laws.law_text import law_text
    from xtrimogene.protein.scaling_laws.registry import write_law
    from xtrimogene.protein.scaling_laws.runs_table import read_runs

    table = read_runs(
        runs,
        flops=flops,
        num_parameters=num_parameters,
        num_tokens=num_tokens,
        loss=loss,
        run=run,
        where=columns_and_texts(where, "objective=CLM"),
    )
    known: dict[str, Any] = {"name": out.stem, "objective": objective, "data": data, "source": f"fitted to {runs.name}"}
    if method == "parametric":
        from xtrimogene.protein.scaling_laws.parametric_fit import fit_parametric

        fitted = fit_parametric(table.num_parameters, table.num_tokens, table.loss, **known)
        write_law(fitted.law, out)
        typer.echo(f"{out}: {len(table.loss):,} runs\n{fitted}")
        return
    if method == "isoflop":
        from xtrimogene.protein.scaling_laws.isoflop import fit_isoflop

        law = fit_isoflop(
            table.flops,
            table.num_parameters,
            table.loss,
            minimum=minimum or "parabola",
            fit=least_squares or "log",
            **known,
        )
    else:
        from xtrimogene.protein.scaling_laws.envelope import fit_envelope

        law = fit_envelope(table.flops, table.num_parameters, table.loss, run=table.run, **known)
    write_law(law, out)
    typer.echo(f"{out}: {len(table.loss):,} runs\n{law_text(law)}")


@protein.command(epilog="Example:  xtrimogene protein pretrain run.toml")
def pretrain(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="The run: files, output, [[stages]] and settings.")
    ],
    seed: Annotated[int | None, typer.Option(help="Instead of the config's.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run, instead of the config's.")] = None,
) -> None:
    """Pre-train a protein model; the same command continues a run that was stopped."""
    from dataclasses import replace

    from xtrimogene.protein.training.run import pretrain as train
    from xtrimogene.protein.training.run import read_config

    run = read_config(config)
    run = replace(run, seed=run.seed if seed is None else seed, output=str(output or run.output))
    try:
        trained = train(run)
    except KeyboardInterrupt:
        print("Stopped; the same command continues from the last checkpoint.", file=sys.stderr)
        raise
    losses = [f"{name} {value:.3f}" for name, value in trained.card["validation_losses"].items()]
    typer.echo(f"{Path(run.output) / 'model'}: trained{'; held out: ' + ', '.join(losses) if losses else ''}")


@protein.command(epilog="Example:  xtrimogene protein embed proteins.fasta vectors.h5 --model runs/mlm/model")
def embed(
    source: Annotated[Path, typer.Argument(metavar="FASTA", help="Proteins, gzipped or not.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .h5 or .parquet to write: a vector a protein.")],
    model: Folder,
    pool: Annotated[
        Literal["mean", "last"], typer.Option(help="Of the residues' vectors; last: for a model trained by CLM.")
    ] = "mean",
    window: Annotated[int | None, typer.Option(help="Tokens read at once. Default: what it was trained on.")] = None,
    to_upper: Annotated[bool, typer.Option("--to-upper", help="Read lower-case letters as capitals.")] = False,
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")] = False,
) -> None:
    """Write one vector per protein; the same command continues where it was stopped."""
    from xtrimogene.protein.embedding.embed import embed_fasta
    from xtrimogene.protein.network.checkpoint import load_protein_model

    try:
        made = embed_fasta(
            source,
            out,
            load_protein_model(model),
            pool=pool,
            window=window,
            to_upper=to_upper,
            device=device,
            overwrite=overwrite,
        )
    except KeyboardInterrupt:
        print("Stopped; the same command continues where it was.", file=sys.stderr)
        raise
    earlier = f", {made.num_resumed:,} of them earlier" if made.num_resumed else ""
    typer.echo(f"{made.path}: {made.num_proteins:,} proteins, {made.num_residues:,} residues, {made.dim} wide{earlier}")


@protein.command(epilog="Example:  xtrimogene protein score wild.fasta variants.csv scores.csv --model runs/mlm/model")
def score(
    wild_type: Annotated[Path, typer.Argument(metavar="FASTA", help="The wild type: one protein.")],
    variants: Annotated[
        Path,
        typer.Argument(metavar="VARIANTS", help='A .csv or .tsv with a column of "A24G" or "A24G:L30P", or a FASTA.'),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .csv to write: the table and a column of scores.")],
    model: Folder,
    method: Annotated[
        Literal["masked_marginal", "wild_type_marginal", "clm"],
        typer.Option(help="The marginals need a model trained by MLM, clm one trained by CLM."),
    ] = "masked_marginal",
    column: Annotated[str, typer.Option(help="The column of the variants.")] = "mutant",
    score_column: Annotated[str, typer.Option(help="What to call the column of the scores.")] = "score",
    offset: Annotated[int, typer.Option(help="Residues that are numbered before the first of FASTA.")] = 0,
    window: Annotated[int | None, typer.Option(help="Tokens read at once. Default: what it was trained on.")] = None,
    to_upper: Annotated[bool, typer.Option("--to-upper", help="Read lower-case letters as capitals.")] = False,
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")] = False,
) -> None:
    """Score variants of a protein: log p(variant) - log p(wild type), in nats."""
    check_target(variants, out, overwrite, ".csv")
    from xtrimogene.long_work import whole_file
    from xtrimogene.protein.network.checkpoint import load_protein_model
    from xtrimogene.protein.variants.scores import score_variants
    from xtrimogene.protein.variants.tables import read_variants_table, read_wild_type

    table, sequence = read_variants_table(variants, column), read_wild_type(wild_type)
    if score_column in table:
        raise ConfigError(f"{variants} has a column {score_column!r} already; name another by --score-column.")
    scores = score_variants(
        load_protein_model(model),
        sequence.upper() if to_upper else sequence,
        (table[column].str.upper() if to_upper else table[column]).tolist(),
        method=method,
        offset=offset,
        window=window,
        device=device,
    )
    with whole_file(out) as written:
        table.assign(**{score_column: [f"{one:.6g}" for one in scores]}).to_csv(written, index=False)
    typer.echo(f"{out}: {len(table):,} variants, scores of {scores.min():.2f} to {scores.max():.2f}")


@protein.command(epilog="Example:  xtrimogene protein generate new.fasta --model runs/clm/model --prefix MKT -n 10")
def generate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .fasta to write.")],
    model: Folder,
    prefix: Annotated[
        str, typer.Option(help="What each protein begins with; with one _ in it: a protein with a gap to fill.")
    ] = "",
    number: Annotated[int, typer.Option("--number", "-n", help="How many.")] = 1,
    max_length: Annotated[
        int | None, typer.Option(help="Residues at most, or of a filling. Default: what it was trained on.")
    ] = None,
    objective: Annotated[
        Literal["clm", "suffix"], typer.Option(help="What the model was trained on; suffix reads the prefix both ways.")
    ] = "clm",
    temperature: Annotated[float, typer.Option(help="A small one takes the likeliest.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest that have this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")] = False,
) -> None:
    """Write new proteins, from a prefix, or with a gap filled."""
    check_target(model, out, overwrite, ".fasta")
    from xtrimogene.long_work import whole_file
    from xtrimogene.protein.generation.generate import GAP, LONGEST_SPAN, infill, longest_protein
    from xtrimogene.protein.generation.generate import generate as grow
    from xtrimogene.protein.generation.sampling import SamplingConfig
    from xtrimogene.protein.network.checkpoint import load_protein_model

    loaded, sampling = load_protein_model(model), SamplingConfig(temperature=temperature, top_p=top_p, seed=seed)
    if GAP in prefix:
        span = LONGEST_SPAN if max_length is None else max_length
        most = len(prefix) - 1 + span
        made = infill(loaded, prefix, num_sequences=number, max_span_length=span, sampling=sampling, device=device)
    else:
        most = longest_protein(loaded, objective) if max_length is None else max_length
        made = grow(
            loaded,
            prefix=prefix,
            num_sequences=number,
            max_length=most,
            objective=objective,
            sampling=sampling,
            device=device,
        )
    with whole_file(out) as written:
        written.write_text(
            "".join(f">generated_{i} seed={seed} {_end(one, most)}\n{one}\n" for i, one in enumerate(made, 1))
        )
    lengths = sorted(map(len, made))
    typer.echo(f"{out}: {len(made):,} proteins of {lengths[0]:,} to {lengths[-1]:,} residues")


def _end(made: str, most: int) -> str:
    """Say how a protein ended: at its last length no end mark was asked for."""
    return "cut" if len(made) == most else "ended"
