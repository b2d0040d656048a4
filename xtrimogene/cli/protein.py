"""Protein language models: protein plan."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from xtrimogene.cli.app import app
from xtrimogene.cli.arguments import columns_and_texts
from xtrimogene.cli.outputs import check_target
from xtrimogene.errors import ConfigError

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
) -> None:
    """Say what protein language model a budget trains best, and how."""
    if out is not None and out.suffix != ".json":
        raise ConfigError(f"--out is {str(out)!r}; a name that ends in .json is needed.")
    from xtrimogene.protein.plan import write_plan
    from xtrimogene.protein.planning import plan as plan_model

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
        Literal["raw", "parabola"], typer.Option(help="isoflop: the best run of a budget, or a parabola's vertex.")
    ] = "parabola",
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
    from xtrimogene.protein.runs_table import read_runs
    from xtrimogene.protein.scaling_laws.law_text import law_text
    from xtrimogene.protein.scaling_laws.registry import write_law

    table = read_runs(
        runs,
        flops=flops,
        num_parameters=num_parameters,
        num_tokens=num_tokens,
        loss=loss,
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

        law = fit_isoflop(table.flops, table.num_parameters, table.loss, minimum=minimum, **known)
    else:
        from xtrimogene.protein.scaling_laws.envelope import fit_envelope

        law = fit_envelope(table.flops, table.num_parameters, table.loss, **known)
    write_law(law, out)
    typer.echo(f"{out}: {len(table.loss):,} runs\n{law_text(law)}")
