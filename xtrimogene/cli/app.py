"""The program itself: its options, its exit codes, how it prints warnings."""

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, TextIO

import typer

from xtrimogene.cli.untrusted import FLAG, asks_for_limits, run_limited
from xtrimogene.errors import ConfigError, XTrimoGeneError

app = typer.Typer(
    name="xtrimogene",
    help="Single-cell foundation models of the xTrimoGene / scFoundation family.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Start with:  xtrimogene demo",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code: 0, 2 for an error that was explained, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if asks_for_limits(given):
        sys.exit(run_limited(given[1:]))
    with warnings.catch_warnings():
        warnings.showwarning = _print_warning
        try:
            app(given, prog_name="xtrimogene")
        except XTrimoGeneError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except MemoryError:
            print("error: memory ran out; give fewer cells, or a machine or a limit with more of it.", file=sys.stderr)
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
    untrusted: Annotated[
        bool,
        typer.Option(FLAG, help="Before a command: read files of strangers in a limited process."),
    ] = False,
) -> None:
    """Take the options that stand before a command."""
    if untrusted:  # `main` has taken it where it may stand
        raise ConfigError(f"{FLAG} stands first: xtrimogene {FLAG} embed cells.h5ad embedded.h5ad.")
