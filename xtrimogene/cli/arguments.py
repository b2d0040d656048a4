"""Arguments that several commands take."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from xtrimogene.errors import ConfigError

Cells = Annotated[Path, typer.Argument(metavar="FILE", help="Cells: an .h5ad file or a .zarr directory.")]
Model = Annotated[str, typer.Option("--model", "-m", help='"demo", a checkpoint folder, or hf://owner/name@revision.')]
Layer = Annotated[str | None, typer.Option(help='Read this layer ("X" and "raw" too) instead of looking for counts.')]
Kind = Annotated[
    Literal["auto", "counts", "log1p"], typer.Option("--input-kind", help="log1p: take the values as they are.")
]
Sample = Annotated[Literal["single_cell", "bulk"], typer.Option("--kind", help="bulk: accept TPM and the like.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps. Default: a GPU where there is one.")]
MinGenes = Annotated[int, typer.Option(help="Refuse data with fewer genes in common with the model.")]


def columns_and_texts(where: Sequence[str] | None, example: str) -> dict[str, list[str]]:
    """Turn "tissue=blood" into a column and the texts that are wanted of it."""
    wanted: dict[str, list[str]] = {}
    for one in where or []:
        name, parted, text = one.partition("=")
        if not parted:
            raise ConfigError(f"--where {one!r} is not of the form COLUMN=TEXT, such as {example}.")
        wanted.setdefault(name, []).append(text)
    return wanted
