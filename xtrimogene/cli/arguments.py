"""Arguments that several commands take."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Cells = Annotated[Path, typer.Argument(metavar="FILE", help="Cells: an .h5ad file or a .zarr directory.")]
Model = Annotated[str, typer.Option("--model", "-m", help='"demo", a checkpoint folder, or hf://owner/name@revision.')]
Layer = Annotated[str | None, typer.Option(help='Read this layer ("X" and "raw" too) instead of looking for counts.')]
Kind = Annotated[
    Literal["auto", "counts", "log1p"], typer.Option("--input-kind", help="log1p: take the values as they are.")
]
Sample = Annotated[Literal["single_cell", "bulk"], typer.Option("--kind", help="bulk: accept TPM and the like.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps. Default: a GPU where there is one.")]
MinGenes = Annotated[int, typer.Option(help="Refuse data with fewer genes in common with the model.")]
