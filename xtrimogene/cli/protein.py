"""Protein language models: protein plan."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from xtrimogene.cli.app import app
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
