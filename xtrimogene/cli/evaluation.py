"""Is the model worth it: evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from xtrimogene.cli.app import app
from xtrimogene.cli.arguments import Device

evaluate = typer.Typer(
    name="evaluate", help="Is the model worth it: beside baselines, on held-out cells.", no_args_is_help=True
)
app.add_typer(evaluate)


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
    from xtrimogene.evaluation.annotation_text import to_summary

    study = evaluation.read_study(config)
    study = replace(study, output=str(output or study.output), device=device or study.device)
    require_new_folder(Path(study.output))
    result = evaluation.annotation(study)
    folder = evaluation.report(result, study.output)
    typer.echo(f"{folder / 'report.md'}: {result.scores.task}, {result.scores.num_tested:,} test cells")
    typer.echo(to_summary(result))
