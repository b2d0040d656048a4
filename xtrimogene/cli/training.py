"""Models and what they are trained on: convert, pretrain, store, plan."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xtrimogene.cli.app import app
from xtrimogene.errors import ConfigError

if TYPE_CHECKING:
    from xtrimogene.config import PretrainConfig

convert = typer.Typer(
    name="convert", help="Turn other people's weights into a checkpoint folder.", no_args_is_help=True
)
app.add_typer(convert)
store = typer.Typer(name="store", help="Many cells, shuffled on disk, for training.", no_args_is_help=True)
app.add_typer(store)


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
