"""Cell search: index, search."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xtrimogene.cli.app import app
from xtrimogene.cli.arguments import Device, MinGenes, Model, columns_and_texts
from xtrimogene.cli.outputs import check_target

if TYPE_CHECKING:
    from xtrimogene.tasks.cell_search.cell_index import CellIndex

Columns = Annotated[
    list[str] | None,
    typer.Option(help="A column of obs to keep, to show and filter by; may be repeated. Default: those of text."),
]
Expression = Annotated[
    bool, typer.Option(help="Compare cells by HVG + PCA of expression too, with half of the weight.")
]
IndexPrecision = Annotated[
    Literal["float16", "float32", "int8"], typer.Option(help="Of the vectors kept: what they weigh.")
]


@app.command(epilog="Example:  xtrimogene index blood.h5ad lung.h5ad atlas-index --column cell_type --column donor")
def index(
    sources: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Cells: .h5ad files, .zarr directories.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    model: Model = "demo",
    column: Columns = None,
    expression: Expression = True,
    precision: IndexPrecision = "float16",
    device: Device = None,
    min_genes: MinGenes = 200,
) -> None:
    """Embed cells once and keep their vectors, for `search` to find the nearest."""
    from xtrimogene import tl

    made = tl.build_index(
        sources,
        out,
        model=model,
        columns=column,
        expression=expression,
        precision=precision,
        device=device,
        min_genes=min_genes,
    )
    typer.echo(describe_index(out, made))


def describe_index(folder: Path, made: "CellIndex") -> str:
    """Return a line: how many cells, how large, and what is known of them."""
    size = sum(file.stat().st_size for file in folder.iterdir())
    return f"{folder}: {len(made.vectors):,} cells, {size / 2**20:,.1f} MiB, with {', '.join(made.cells.columns)}"


@app.command(epilog="Example:  xtrimogene search cells.h5ad atlas-index hits.csv --where tissue=blood")
def search(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Cells: an .h5ad file or a .zarr directory.")],
    place: Annotated[Path, typer.Argument(metavar="INDEX", help="The folder that `index` made.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .csv to write: a row for each cell found.")],
    k: Annotated[int, typer.Option("-k", help="Cells to find for each cell.")] = 10,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=TEXT", help="Find only such cells; may be repeated: any text, all columns."),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare all cells: misses none, and is slower.")] = False,
    model: Model = "demo",
    device: Device = None,
    min_genes: MinGenes = 200,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")] = False,
) -> None:
    """Find the cells of an index that are most like each cell of a file."""
    check_target(source, out, overwrite, ".csv")
    wanted = columns_and_texts(where, "tissue=blood")
    from xtrimogene import tl
    from xtrimogene.long_work import whole_file

    found = tl.search(
        source, place, k=k, where=wanted or None, exact=exact, model=model, device=device, min_genes=min_genes
    )
    with whole_file(out) as written:
        found = found.assign(score=found["score"].astype(float).round(4))
        found.to_csv(written, index=False, quoting=csv.QUOTE_NONNUMERIC)
    typer.echo(f"{out}: {len(found):,} cells found for {found['query_row'].nunique():,}")
