"""Many files at once: atlas embed, atlas annotate, atlas index."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xtrimogene.cli.app import app
from xtrimogene.cli.arguments import Device, MinGenes, Model
from xtrimogene.cli.search import Columns, Expression, IndexPrecision, describe_index
from xtrimogene.errors import ConfigError

if TYPE_CHECKING:
    from xtrimogene.atlas.work import Work

commands = typer.Typer(
    help="Embed, annotate or index many files: each gives one Parquet; what is done is not done again.",
    no_args_is_help=True,
)
app.add_typer(commands, name="atlas")

Sources = Annotated[list[Path], typer.Argument(metavar="SHARDS...", help="Cells: .h5ad files, .zarr directories.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the outputs; the same again goes on.")]
Task = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Do one share of N, counted from 0: a task of a cluster's array."),
]
Ray = Annotated[int | None, typer.Option("--ray", metavar="N", help="Do it with N actors of Ray.")]
Gpus = Annotated[bool, typer.Option("--gpus", help="With --ray: a GPU for each actor.")]
Address = Annotated[str | None, typer.Option(help='With --ray: of a cluster, or "auto". Default: this machine.')]
Price = Annotated[
    float | None,
    typer.Option(help="An hour, for the report: of this machine, or of all workers of Ray."),
]


@commands.command(epilog="Example:  xtrimogene atlas embed shards/*.h5ad vectors --ray 8 --gpus --price 32")
def embed(
    sources: Sources,
    out: Out,
    model: Model = "demo",
    precision: Annotated[Literal["float16", "float32"], typer.Option(help="Of the vectors written.")] = "float16",
    task: Task = None,
    ray: Ray = None,
    gpus: Gpus = False,
    address: Address = None,
    price: Price = None,
    device: Device = None,
    min_genes: MinGenes = 200,
) -> None:
    """Write a vector for each cell of many files."""
    from xtrimogene.atlas import EmbedWork

    work = EmbedWork(model=model, precision=precision, min_genes=min_genes)
    _run(sources, out, work, task, ray, gpus, address, price, device)


@commands.command(epilog="Example:  xtrimogene atlas annotate shards/*.h5ad labels --annotator blood --task 3/16")
def annotate(
    sources: Sources,
    out: Out,
    annotator: Annotated[str, typer.Option(metavar="FOLDER", help="What `fit_annotator` wrote.")],
    model: Model = "demo",
    error_rate: Annotated[float, typer.Option(help="How seldom the right label is not among the possible.")] = 0.1,
    novelty_rate: Annotated[float, typer.Option(help="How seldom a known kind of cell is called unknown.")] = 0.05,
    task: Task = None,
    ray: Ray = None,
    gpus: Gpus = False,
    address: Address = None,
    price: Price = None,
    device: Device = None,
    min_genes: MinGenes = 200,
) -> None:
    """Write labels, and how sure they are, for each cell of many files."""
    from xtrimogene.atlas import AnnotateWork

    work = AnnotateWork(
        annotator=annotator, model=model, error_rate=error_rate, novelty_rate=novelty_rate, min_genes=min_genes
    )
    _run(sources, out, work, task, ray, gpus, address, price, device)


@commands.command(epilog="Example:  xtrimogene atlas index shards/*.h5ad atlas-index --vectors vectors --column donor")
def index(
    sources: Sources,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make, for `xtrimogene search`.")],
    vectors: Annotated[Path, typer.Option(metavar="FOLDER", help="What `atlas embed` wrote of these shards.")],
    model: Model = "demo",
    column: Columns = None,
    expression: Expression = True,
    precision: IndexPrecision = "float16",
) -> None:
    """Make an index for cell search from vectors that are there."""
    from xtrimogene import atlas

    made = atlas.index_vectors(
        sources, vectors, out, columns=column, expression=expression, precision=precision, model=model
    )
    typer.echo(describe_index(out, made))


def _run(
    sources: list[Path],
    out: Path,
    work: "Work",
    task: str | None,
    ray: int | None,
    gpus: bool,
    address: str | None,
    price: float | None,
    device: str | None,
) -> None:
    from xtrimogene import atlas

    if ray is None:
        if gpus or address is not None:
            raise ConfigError("--gpus and --address go with --ray; add --ray N.")
        number, num_tasks = _share(task)
        report = atlas.run(sources, out, work, task=number, num_tasks=num_tasks, device=device, price=price)
    else:
        if task is not None or device is not None:
            raise ConfigError("--ray deals the shards and the devices itself; leave --task and --device out.")
        report = atlas.run_on_ray(sources, out, work, num_workers=ray, gpus=gpus, address=address, price=price)
    typer.echo(str(report))
    if report.failures:
        raise typer.Exit(1)


def _share(task: str | None) -> tuple[int, int]:
    if task is None:
        return 0, 1
    first, _, second = task.partition("/")
    if not first.isdecimal() or not second.isdecimal():
        raise ConfigError(f"--task {task!r} is not of the form I/N, such as 3/16.")
    return int(first), int(second)
