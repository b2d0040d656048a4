"""The service: serve."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from xtrimogene.cli.app import app
from xtrimogene.cli.arguments import Device
from xtrimogene.errors import ConfigError


@app.command(
    epilog="Example:  xtrimogene serve demo --annotator blood=annotators/blood  (then: curl localhost:8000/v1/models)"
)
def serve(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODELS...", help='"demo", folders, hf://..., or NAME=PLACE; the first is the default.'),
    ],
    annotator: Annotated[
        list[str] | None,
        typer.Option(metavar="[MODEL/]NAME=FOLDER", help="What `fit_annotator` wrote; may be repeated."),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; anything but this machine needs --tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 8000,
    tokens: Annotated[Path | None, typer.Option(help='A file of lines "NAME TOKEN": who may ask.')] = None,
    device: Device = None,
    readers: Annotated[int, typer.Option(min=1, help="Processes that decode what is sent.")] = 1,
    drain: Annotated[int, typer.Option(min=0, help="Seconds for open requests after SIGTERM.")] = 60,
    max_body: Annotated[int, typer.Option(min=1, help="MiB that one request may send.")] = 64,
    max_cells: Annotated[int, typer.Option(min=1, help="Cells that one request may hold.")] = 20_000,
    max_wait: Annotated[int, typer.Option(min=1, help="Seconds of work that a request may find before it.")] = 60,
) -> None:
    """Host models for others: vectors, labels and expression over HTTP.

    Cells travel as Arrow (`xtrimogene.Client` speaks it) or, for a few, as JSON. What is documented at /docs and
    counted at /metrics; SIGTERM answers what has come, then ends.
    """
    from xtrimogene.serving import Limits, ServedModel
    from xtrimogene.serving import serve as run

    named = dict(_named(model) for model in models)
    if len(named) < len(models):
        raise ConfigError("Two MODELS have the same name; give each its own, as NAME=PLACE.")
    of_model = _by_model(annotator or [], list(named))
    served = [
        ServedModel(name=name, place=place, annotators=of_model[name], device=device) for name, place in named.items()
    ]
    limits = Limits(max_body_bytes=max_body << 20, max_cells=max_cells, max_waiting_seconds=float(max_wait))
    run(served, host=host, port=port, tokens=tokens, limits=limits, num_readers=readers, drain_seconds=drain)


def _named(text: str) -> tuple[str, str]:
    name, parted, place = text.partition("=")
    if parted and not Path(text).is_dir():
        return name, place
    return text if "://" in text else Path(os.path.abspath(text)).name, text


def _by_model(texts: Sequence[str], models: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {model: {} for model in models}
    for text in texts:
        whole, parted, folder = text.partition("=")
        model, slashed, name = whole.rpartition("/")
        model = model if slashed else models[0]
        if not parted or not name or not folder or model not in found:
            raise ConfigError(
                f"--annotator {text!r} is not of the form [MODEL/]NAME=FOLDER with a model that is served: "
                f"{', '.join(models)}."
            )
        found[model][name] = folder
    return found
