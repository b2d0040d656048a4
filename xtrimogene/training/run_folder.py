"""The folder of a run: one config, its checkpoints, and at the end the model."""

import json
from pathlib import Path
from typing import Protocol, runtime_checkable

from xtrimogene.config import to_dict
from xtrimogene.errors import ConfigError
from xtrimogene.long_work import whole_file
from xtrimogene.training.run_checkpoints import remove_scratch


@runtime_checkable
class RunConfig(Protocol):
    """The config of any run: a dataclass with the folder it writes to."""

    @property
    def output(self) -> str: ...


def check_unclaimed(config: RunConfig) -> None:
    """Refuse the folder of another config, in which resuming would mix two runs, and that of a finished run.

    Raises
    ------
    ConfigError
        ``output`` is such a folder.
    """
    output = Path(config.output)
    record = output / "config.json"
    if record.is_file() and record.read_text() != _as_json(config):
        raise ConfigError(f"{output} holds a run of another config; name another output, or remove the folder.")
    if (output / "model").exists():
        raise ConfigError(f"{output / 'model'} is finished already; name another output, or remove the folder.")


def claim(config: RunConfig) -> None:
    """Write down the config, and remove what a killed process left.

    Raises
    ------
    ConfigError
        The folder cannot be written.
    """
    output = Path(config.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        remove_scratch(output / "checkpoints")
        with whole_file(output / "config.json") as scratch:
            scratch.write_text(_as_json(config))
    except OSError as error:
        raise ConfigError(f"{output} cannot be written ({error.strerror}); name another output.") from None


def _as_json(config: RunConfig) -> str:
    return json.dumps(to_dict(config), indent=1) + "\n"
