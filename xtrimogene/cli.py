"""The command line: it parses, calls the library, and prints. Heavy imports wait until a command runs."""

import csv
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from xtrimogene.errors import ConfigError, FileFormatError, XTrimoGeneError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from xtrimogene.config import PretrainConfig

app = typer.Typer(
    name="xtrimogene",
    help="Single-cell foundation models of the xTrimoGene / scFoundation family.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Start with:  xtrimogene demo",
)
convert = typer.Typer(
    name="convert", help="Turn other people's weights into a checkpoint folder.", no_args_is_help=True
)
app.add_typer(convert)
store = typer.Typer(name="store", help="Many cells, shuffled on disk, for training.", no_args_is_help=True)
app.add_typer(store)
evaluate = typer.Typer(
    name="evaluate", help="Is the model worth it: beside baselines, on held-out cells.", no_args_is_help=True
)
app.add_typer(evaluate)

Cells = Annotated[Path, typer.Argument(metavar="FILE", help="Cells: an .h5ad file or a .zarr directory.")]
Model = Annotated[str, typer.Option("--model", "-m", help='"demo", a checkpoint folder, or hf://owner/name@revision.')]
Layer = Annotated[str | None, typer.Option(help='Read this layer ("X" and "raw" too) instead of looking for counts.')]
Kind = Annotated[
    Literal["auto", "counts", "log1p"], typer.Option("--input-kind", help="log1p: take the values as they are.")
]
Sample = Annotated[Literal["single_cell", "bulk"], typer.Option("--kind", help="bulk: accept TPM and the like.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps. Default: a GPU where there is one.")]
MinGenes = Annotated[int, typer.Option(help="Refuse data with fewer genes in common with the model.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code: 0, 2 for an error that was explained, 130 for Ctrl-C."""
    with warnings.catch_warnings():
        warnings.showwarning = _print_warning
        try:
            app(arguments, prog_name="xtrimogene")
        except XTrimoGeneError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            if error.filename is None:
                raise
            print(f"error: {error.filename}: {error.strerror}.", file=sys.stderr)
            sys.exit(2)


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, UserWarning):  # the others speak to programmers
        print(f"warning: {message}", file=sys.stderr)


def _show_version(wanted: bool) -> bool:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"xtrimogene {version('xtrimogene')}")
        raise typer.Exit
    return wanted


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


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
    _check_target(source, out, overwrite)
    _check_table(source)
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
    _write(cells, out)
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
    _check_target(source, out, overwrite)
    _check_table(source)
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
    _write(cells, out)
    record, column = cells.uns[f"{key_added}_annotation"], f"{key_added}_label"
    learned = sum(record["annotator"]["cells"])
    _say_labels(cells.obs[column], record, f"{out}: {cells.n_obs:,} cells, labels of {learned:,} in obs[{column!r}]")


def _say_labels(labels: "pd.Series[str]", record: Mapping[str, Any], written: str) -> None:
    """Say how many cells have each label, where they were written, and what labels are worth in held-out cells."""
    from xtrimogene.tasks.annotation.screen import held_out_lines

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
        _check_target(source, out, overwrite)
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
    _write(mapped, out)
    asked = mapped.obs[f"{key_added}_source"] == "query"
    keys = " and ".join(repr(key) for key in mapped.obsm)
    _say_labels(
        mapped.obs.loc[asked, f"{key_added}_label"],
        mapped.uns[f"{key_added}_map"],
        f"{out}: {asked.sum():,} cells of the query on {(~asked).sum():,} of the reference, in obsm {keys}",
    )


@app.command(epilog="Example:  xtrimogene index blood.h5ad lung.h5ad atlas-index --column cell_type --column donor")
def index(
    sources: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Cells: .h5ad files, .zarr directories.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    model: Model = "demo",
    column: Annotated[
        list[str] | None,
        typer.Option(help="A column of obs to keep, to show and filter by; may be repeated. Default: those of text."),
    ] = None,
    expression: Annotated[
        bool, typer.Option(help="Compare cells by HVG + PCA of expression too, with half of the weight.")
    ] = True,
    precision: Annotated[
        Literal["float16", "float32", "int8"], typer.Option(help="Of the vectors kept: what they weigh.")
    ] = "float16",
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
    size = sum(file.stat().st_size for file in out.iterdir())
    typer.echo(f"{out}: {len(made.vectors):,} cells, {size / 2**20:,.1f} MiB, with {', '.join(made.cells.columns)}")


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
    _check_target(source, out, overwrite, ".csv")
    wanted: dict[str, list[str]] = {}
    for one in where or []:
        name, parted, text = one.partition("=")
        if not parted:
            raise ConfigError(f"--where {one!r} is not of the form COLUMN=TEXT, such as tissue=blood.")
        wanted.setdefault(name, []).append(text)
    from xtrimogene import tl
    from xtrimogene.long_work import whole_file

    found = tl.search(
        source, place, k=k, where=wanted or None, exact=exact, model=model, device=device, min_genes=min_genes
    )
    with whole_file(out) as written:
        found.to_csv(written, index=False, float_format="%.4f", quoting=csv.QUOTE_NONNUMERIC)
    typer.echo(f"{out}: {len(found):,} cells found for {found['query_row'].nunique():,}")


@convert.command(
    epilog="Example:  xtrimogene convert scfoundation models.ckpt --genes genes.tsv --key cell --out scfoundation-cell"
)
def scfoundation(
    checkpoint: Annotated[Path, typer.Argument(metavar="MODELS.ckpt", help="The released file, from its authors.")],
    genes: Annotated[Path, typer.Option(help="The gene list released with it (gene_name, index).")],
    out: Annotated[Path, typer.Option(help="The checkpoint folder to make.")],
    key: Annotated[
        Literal["cell", "rde", "gene"], typer.Option(help="Which model: cells, read-depth enhancement, genes.")
    ] = "cell",
) -> None:
    """Convert one of the three models of the released scFoundation file."""
    from xtrimogene.checkpoint import save
    from xtrimogene.scfoundation import read_scfoundation

    model = read_scfoundation(checkpoint, genes, key=key)
    save(model, out)
    typer.echo(f"{out}: {len(model.genes):,} genes, for model={str(out)!r}; {model.card['licence']}")


@app.command(epilog="Example:  xtrimogene pretrain run.toml --seed 1 --output runs/second")
def pretrain(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The run: files, output, preset and settings.")],
    seed: Annotated[int | None, typer.Option(help="Instead of the config's.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run, instead of the config's.")] = None,
    devices: Annotated[int, typer.Option(help="GPUs of this machine; processes where there is none.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines; start the command on each by torchrun or SLURM.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes beside each device's that prepare cells.")] = 0,
    strategy: Annotated[
        Literal["ddp", "fsdp"], typer.Option(help="fsdp: each device holds a share of the model, for large ones.")
    ] = "ddp",
) -> None:
    """Pre-train a model; the same command continues a run that was stopped.

    It goes on exactly where it stopped, on as many devices as are there now.
    """
    from dataclasses import replace

    from xtrimogene.training.run import is_first_process, read_config
    from xtrimogene.training.run import pretrain as train

    run = read_config(config)
    run = replace(run, seed=run.seed if seed is None else seed, output=str(output or run.output))
    try:
        train(run, num_devices=devices, num_nodes=nodes, num_workers=workers, strategy=strategy)
    except KeyboardInterrupt:
        print("Stopped; the same command continues from the last checkpoint.", file=sys.stderr)
        raise
    if is_first_process():
        typer.echo(f"{Path(run.output) / 'model'}: trained")


@store.command(epilog="Example:  xtrimogene store build a.h5ad b.h5ad cells.zarr --donor-key donor_id")
def build(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Cells: .h5ad files, .zarr directories.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The store to make; its name ends in .zarr.")],
    donor_key: Annotated[str | None, typer.Option(help="The column of obs that names the donor.")] = None,
    batch_key: Annotated[
        str | None, typer.Option(help="The column of obs that names the batch, in files that join batches.")
    ] = None,
    min_genes: Annotated[int, typer.Option(help="Leave out cells with fewer expressed genes.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the order of the cells.")] = 0,
    memory: Annotated[float, typer.Option(help="GB to work with; more makes fewer and larger parts.")] = 4.0,
) -> None:
    """Shuffle the cells of many files into one store; again: continue."""
    from xtrimogene.config import StoreConfig
    from xtrimogene.data.store_builder import build_store
    from xtrimogene.data.store_summary import summarize

    config = StoreConfig(
        files=tuple(map(str, files)),
        output=str(out),
        donor_key=donor_key,
        batch_key=batch_key,
        min_genes=min_genes,
        seed=seed,
        memory=memory,
    )
    try:
        build_store(config)
    except KeyboardInterrupt:
        print("Stopped; the same command continues where it was.", file=sys.stderr)
        raise
    typer.echo(summarize(out))


@store.command(epilog="Example:  xtrimogene store info cells.zarr")
def info(path: Annotated[Path, typer.Argument(metavar="STORE", help="What `store build` wrote.")]) -> None:
    """Say what a store holds, and of which files."""
    from xtrimogene.data.store_summary import summarize

    typer.echo(summarize(path))


@app.command(epilog="Example:  xtrimogene plan --preset 100M --cells 50000000 --devices 8")
def plan(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG.toml", help="A run, as for pretrain; or else give --preset.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="demo, 3M, 10M, 100M or scfoundation, in place of a run.")] = None,
    cells: Annotated[int | None, typer.Option(help="How many cells there are; or else --data.")] = None,
    expressed: Annotated[float, typer.Option(help="Mean number of genes that a cell expresses.")] = 1500.0,
    data: Annotated[
        list[Path] | None, typer.Option(help="Look into this .h5ad, .zarr or built store instead; may be repeated.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Cells of a step, on all devices together. Default: the run's, or 64.")
    ] = None,
    lanes: Annotated[int | None, typer.Option(help="sampling.num_lanes. Default: the run's, or 8.")] = None,
    device: Annotated[str, typer.Option(help="A100-40, A100-80, H100, H200, L40S, RTX-4090 or CPU-core.")] = "H100",
    devices: Annotated[int, typer.Option(help="How many of them; must divide the lanes.")] = 1,
    memory: Annotated[float | None, typer.Option(help="GiB of a device, where it is not the usual.")] = None,
    utilisation: Annotated[float, typer.Option(help="Share of the device's peak that is reached; assumed.")] = 0.3,
    epochs: Annotated[
        float | None, typer.Option(help="How often each cell is seen. Default: the run's steps, or once.")
    ] = None,
) -> None:
    """Say whether a pre-training run fits, how long it takes, and what to change."""
    from xtrimogene.training.data_summary import DataSummary, summarize_files
    from xtrimogene.training.planning import plan as plan_run

    if config is not None and preset is None:
        from xtrimogene.training.run import read_config

        run: PretrainConfig | str = read_config(config)
    elif preset is not None and config is None:
        run = preset
    else:
        raise ConfigError("Give either a run's CONFIG.toml or --preset; 'xtrimogene plan --help' shows an example.")
    if cells is not None and data:
        raise ConfigError("--cells and --data both say what there is to train on; give one of the two.")
    summary = None if cells is None else DataSummary(num_cells=cells, expressed_genes=expressed)
    if data:
        summary = summarize_files(data, min_genes=200 if isinstance(run, str) else run.min_genes)
    planned = plan_run(
        run,
        summary,
        batch_size=batch_size,
        num_lanes=lanes,
        device=device,
        num_devices=devices,
        memory_gib=memory,
        utilisation=utilisation,
        epochs=epochs,
    )
    typer.echo(planned)


@evaluate.command(name="annotation", epilog="Example:  xtrimogene evaluate annotation study.toml --output report")
def evaluate_annotation(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="The study: files, label_key, output, and what is kept apart.")
    ],
    output: Annotated[Path | None, typer.Option(help="Folder of the report, instead of the config's.")] = None,
    device: Device = None,
) -> None:
    """Annotate held-out cells, with the model and with baselines; write a report.

    It ends with a verdict: the model beats, ties with or loses to the best baseline.

    group_key or test_files say what is kept apart: donors, or another study.

    Cells of the same donors are tested only with split = "cell".
    """
    from dataclasses import replace

    from xtrimogene import evaluation
    from xtrimogene.checkpoint import require_new_folder
    from xtrimogene.evaluation.annotation_text import to_screen

    study = evaluation.read_study(config)
    study = replace(study, output=str(output or study.output), device=device or study.device)
    require_new_folder(Path(study.output))
    result = evaluation.annotation(study)
    folder = evaluation.report(result, study.output)
    typer.echo(f"{folder / 'report.md'}: {result.scores.task}, {result.scores.num_tested:,} test cells")
    typer.echo(to_screen(result))


def _check_target(source: Path, out: Path, overwrite: bool, suffix: str = ".h5ad") -> None:
    """Refuse before hours of work what would fail, or destroy the input, after them."""
    if out.suffix != suffix:
        raise ConfigError(f"OUT is {str(out)!r}; a name that ends in {suffix} is needed.")
    if out.exists() and source.exists() and out.samefile(source):
        raise ConfigError(f"OUT is the input {source}, and OUT has no X; name another file.")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists already; name another file, or add --overwrite.")
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; name a file.")
    if not out.parent.is_dir():
        raise ConfigError(f"The folder {out.parent} does not exist; make it, or name another file.")
    from xtrimogene.long_work import temporary_folder

    with temporary_folder(out):
        pass


def _check_table(source: Path) -> None:
    """Refuse a table of cells that could be read but not written."""
    import io

    import h5py
    from anndata.io import write_elem

    from xtrimogene.data.blocks import open_cells

    with open_cells(source) as cells, h5py.File(io.BytesIO(), "w") as file:
        try:
            write_elem(file, "obs", cells.obs)
        except (TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise FileFormatError(
                f"The cells' table (obs) of {source} cannot be written again ({reason}); rename or drop that column."
            ) from None


def _write(cells: "AnnData", out: Path) -> None:
    from anndata import settings

    from xtrimogene.long_work import whole_file

    with whole_file(out) as place, settings.override(allow_write_nullable_strings=True):
        cells.write_h5ad(place, compression="gzip")
