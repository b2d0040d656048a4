"""Run the service: one process for HTTP, one for reading bodies, one a model."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from xtrimogene.errors import ConfigError, MissingExtraError
from xtrimogene.serving.limits import Limits
from xtrimogene.serving.served_model import ServedModel
from xtrimogene.serving.tokens import Tokens


def serve(
    models: Sequence[ServedModel],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    tokens: Path | None = None,
    limits: Limits | None = None,
    num_readers: int = 1,
    drain_seconds: int = 60,
) -> None:
    """Host models until SIGTERM or Ctrl-C; then take no new requests, and answer those that have come.

    Parameters
    ----------
    models
        The first is asked where a request names none.
    host
        The address to listen at. Anything but this machine's own needs ``tokens``.
    tokens
        A file of lines "NAME TOKEN". Default: no token is asked for.
    num_readers
        Processes that decode bodies.
    drain_seconds
        How long requests may go on after SIGTERM.

    Raises
    ------
    ConfigError
        An address that others can reach, and no tokens; an option that cannot be.
    CheckpointError
        A model or annotator that cannot be loaded.
    ServiceError
        A process that ends, or hangs, before it is ready.
    MissingExtraError
        Without the extra ``serve``.
    """
    try:
        import uvicorn

        from xtrimogene.serving.app import create_app
        from xtrimogene.serving.service import Service
    except ImportError as error:
        raise MissingExtraError(
            f"The service needs an extra ({error.name}): pip install 'xtrimogene[serve]'."
        ) from None
    if host not in ("127.0.0.1", "::1", "localhost") and tokens is None:
        raise ConfigError(
            f"host={host!r} can be reached by others, so tokens are needed: a file of lines 'NAME TOKEN'."
        )
    known = None if tokens is None else Tokens.read(tokens)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    service = Service(models, limits=limits or Limits(), num_readers=num_readers)
    config = uvicorn.Config(
        create_app(service, known),
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=drain_seconds,
        timeout_keep_alive=75,  # longer than clients keep a connection: who closes first may cut off a request
        h11_max_incomplete_event_size=64 << 10,
    )
    service.start()
    try:
        uvicorn.Server(config).run()
    finally:
        service.close()
