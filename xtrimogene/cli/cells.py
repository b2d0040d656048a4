"""What is done with cells: demo, check, embed, annotate, map."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xtrimogene.cli.app import app
from xtrimogene.cli.arguments import Cells, Device, Kind, Layer, MinGenes, Model, Sample
from xtrimogene.cli.outputs import check_table, check_target, write_cells
from xtrimogene.errors import ConfigError, FileFormatError

if TYPE_CHECKING:
    import pandas as pd


@app.command(epilog="Example:  xtrimogene demo --out demo_output")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture, the table and the cells.")] = Path("demo_output"),
) -> None:
    """Embed and annotate real cells with the bundled model, beside PCA (a minute or two)."""
    from xtrimogene.demo import run

    run(out, say=typer.echo)


@app.command(epilog="Example:  xtrimogene check cells.h5ad")
def check(
    file: Cells,
    model: Model = "demo",
    layer: Layer = None,
    input_kind: Kind = "auto",
    kind: Sample = "single_cell",
    device: Device = None,
    min_genes: MinGenes = 200,
) -> None:
    """Say what a file holds, what of it would be used, and what embedding it costs."""
    from xtrimogene import pp

    report = pp.check(file, model, layer=layer, input_kind=input_kind, kind=kind, min_genes=min_genes, device=device)
    typer.echo(report.findings)
    if report.problem is not None:
        raise FileFormatError(report.problem)


@app.command(epilog="Example:  xtrimogene embed cells.h5ad embedded.h5ad --model demo")
def embed(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Cells: an .h5ad file or a .zarr directory.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .h5ad to write: obs, obsm and uns, without X.")],
    model: Model = "demo",
    layer: Layer = None,
    input_kind: Kind = "auto",
    kind: Sample = "single_cell",
    pool: Annotated[
        Literal["all", "max", "mean", "latent"] | None,
        typer.Option(help="How genes become one vector. Default: the model's."),
    ] = None,
    read_depth: Annotated[str | None, typer.Option(help="As t4, f1 or a0.5. Default: the model's.")] = None,
    key_added: Annotated[str, typer.Option(help="Where in obsm the vectors go.")] = "X_xtrimogene",
    device: Device = None,
    token_budget: Annotated[int | None, typer.Option(help="Genes read at once: memory for speed.")] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "int8"],
        typer.Option(help="Of the encoder; the others can be faster and change vectors by 1 to 4 %."),
    ] = "float32",
    min_genes: MinGenes = 200,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")] = False,
) -> None:
    """Write one vector per cell; a file is read in blocks, so memory stays bounded."""
    check_target(source, out, overwrite)
    check_table(source)
    from xtrimogene import tl

    cells = tl.embed(
        source,
        model,
        layer=layer,
        input_kind=input_kind,
        kind=kind,
        pool=pool,
        read_depth=read_depth,
        key_added=key_added,
        device=device,
        token_budget=token_budget,
        precision=precision,
        min_genes=min_genes,
    )
    write_cells(cells, out)
    width = cells.obsm[key_added].shape[1]
    typer.echo(f"{out}: {cells.n_obs:,} cells x {width:,} in obsm[{key_added!r}]")


@app.command(epilog="Example:  xtrimogene annotate cells.h5ad out.h5ad --reference known.h5ad --label-key cell_type")
def annotate(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Cells: an .h5ad file or a .zarr directory.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .h5ad to write: obs and uns, without X.")],
    reference: Annotated[Path | None, typer.Option(help="Labelled cells to learn from.")] = None,
    label_key: Annotated[str | None, typer.Option(help="The reference's column of obs with the cell types.")] = None,
    group_key: Annotated[
        str | None, typer.Option(help="Its donors, studies or batches: confidence is checked in those held out.")
    ] = None,
    ontology_key: Annotated[
        str | None, typer.Option(help="Its ids of cell types, CL:...: possible labels get what they have in common.")
    ] = None,
    annotator: Annotated[Path | None, typer.Option(help="Instead, a folder of xtrimogene.tl.fit_annotator.")] = None,
    model: Model = "demo",
    method: Annotated[
        Literal["ensemble", "linear", "knn", "finetune", "match"] | None,
        typer.Option(help="How labels are learned. Default: ensemble."),
    ] = None,
    batch_key: Annotated[
        str | None, typer.Option(help="The reference's column of batches that finetune is to make alike.")
    ] = None,
    candidate: Annotated[
        list[str] | None, typer.Option(help="A label that may be given; may be repeated. Default: all.")
    ] = None,
    marker: Annotated[
        list[str] | None,
        typer.Option(help="A further label by its marker genes, Platelet=PPBP,PF4, for match; may be repeated."),
    ] = None,
    baselines: Annotated[
        bool | None, typer.Option(help="Say whether PCA or all genes would do better here. Default: yes.")
    ] = None,
    error_rate: Annotated[float, typer.Option(help="How seldom the right label is not among the possible.")] = 0.1,
    novelty_rate: Annotated[float, typer.Option(help="How seldom a known kind of cell is called unknown.")] = 0.05,
    align: Annotated[
        bool | None, typer.Option(help="Take out what moves all types alike, as a protocol does. Default: yes.")
    ] = None,
    vote: Annotated[bool, typer.Option("--vote", help="Add what a cell and its 5 nearest are together.")] = False,
    key_added: Annotated[str, typer.Option(help="How the new columns of obs begin.")] = "xtrimogene",
    device: Device = None,
    min_genes: MinGenes = 200,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")] = False,
) -> None:
    """Write each cell's type, learned from labelled cells, and how sure it is."""
    for one in (source, reference):
        if one is not None:
            check_target(one, out, overwrite)
    check_table(source)
    from xtrimogene import tl
    from xtrimogene.tl.embedding import record_key

    key_added = record_key(key_added)
    cells = tl.annotate(
        source,
        reference=reference,
        annotator=annotator,
        label_key=label_key,
        group_key=group_key,
        ontology_key=ontology_key,
        model=model,
        method=method,
        batch_key=batch_key,
        baselines=baselines,
        candidates=candidate,
        markers=_markers(marker or []),
        error_rate=error_rate,
        novelty_rate=novelty_rate,
        align=align,
        vote=vote,
        key_added=key_added,
        device=device,
        min_genes=min_genes,
    )
    write_cells(cells, out)
    record, column = cells.uns[f"{key_added}_annotation"], f"{key_added}_label"
    learned = sum(record["annotator"]["cells"])
    _say_labels(cells.obs[column], record, f"{out}: {cells.n_obs:,} cells, labels of {learned:,} in obs[{column!r}]")


def _say_labels(labels: "pd.Series[str]", record: Mapping[str, Any], written: str) -> None:
    """Say how many cells have each label, where they were written, and what labels are worth in held-out cells."""
    from xtrimogene.tasks.annotation.held_out_text import held_out_lines

    for label, number in labels.value_counts().items():
        if number:
            typer.echo(f"{number:>9,}  {label}")
    typer.echo(written)
    for line in held_out_lines(record["held_out"], held_out_by=record["annotator"]["held_out_by"]):
        typer.echo(line)


def _markers(given: list[str]) -> dict[str, list[str]]:
    """Turn "Platelet=PPBP,PF4" into a label and its genes."""
    described: dict[str, list[str]] = {}
    for one in given:
        name, _, genes = one.rpartition("=")
        listed = [gene.strip() for gene in genes.split(",") if gene.strip()]
        if not name.strip() or not listed:
            raise ConfigError(f"--marker {one!r}: a label and its genes are needed, such as Platelet=PPBP,PF4.")
        described.setdefault(name.strip(), []).extend(listed)
    return described


@app.command(name="map", epilog="Example:  xtrimogene map cells.h5ad known.h5ad mapped.h5ad --label-key cell_type")
def map_to_reference(
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="Cells: an .h5ad file or a .zarr directory.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="Labelled cells, as one of these.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The .h5ad to write: cells of both, without X.")],
    label_key: Annotated[str, typer.Option(help="The reference's column of obs with the cell types.")],
    group_key: Annotated[
        str | None, typer.Option(help="Its donors, studies or batches: confidence is checked in those held out.")
    ] = None,
    model: Model = "demo",
    method: Annotated[
        Literal["ensemble", "linear", "knn", "finetune", "match"], typer.Option(help="How labels are learned.")
    ] = "ensemble",
    batch_key: Annotated[
        str | None, typer.Option(help="The reference's column of batches that finetune is to make alike.")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Say whether PCA or all genes would do better here.")] = True,
    align: Annotated[bool, typer.Option(help="Take out what moves all types alike, as a protocol does.")] = True,
    error_rate: Annotated[float, typer.Option(help="How seldom the right label is not among the possible.")] = 0.1,
    novelty_rate: Annotated[float, typer.Option(help="How seldom a known kind of cell is called unknown.")] = 0.05,
    umap: Annotated[bool, typer.Option(help="Add a UMAP of the reference with the query on it.")] = True,
    seed: Annotated[int, typer.Option(help="Of the UMAP.")] = 0,
    key_added: Annotated[str, typer.Option(help="How the new columns of obs begin.")] = "xtrimogene",
    device: Device = None,
    min_genes: MinGenes = 200,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")] = False,
) -> None:
    """Lay cells onto a labelled reference: one space for both, its labels, its UMAP."""
    for source in (query, reference):
        check_target(source, out, overwrite)
    from xtrimogene import tl
    from xtrimogene.tl.embedding import record_key

    key_added = record_key(key_added)
    mapped = tl.map_to_reference(
        query,
        reference,
        label_key=label_key,
        group_key=group_key,
        model=model,
        method=method,
        batch_key=batch_key,
        baselines=baselines,
        align=align,
        error_rate=error_rate,
        novelty_rate=novelty_rate,
        umap=umap,
        seed=seed,
        key_added=key_added,
        device=device,
        min_genes=min_genes,
    )
    write_cells(mapped, out)
    asked = mapped.obs[f"{key_added}_source"] == "query"
    keys = " and ".join(repr(key) for key in mapped.obsm)
    _say_labels(
        mapped.obs.loc[asked, f"{key_added}_label"],
        mapped.uns[f"{key_added}_map"],
        f"{out}: {asked.sum():,} cells of the query on {(~asked).sum():,} of the reference, in obsm {keys}",
    )
