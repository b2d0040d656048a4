"""The command line: it parses, calls the library, and prints. Heavy imports wait until a command runs."""

from xtrimogene.cli import atlas, cells, evaluation, protein, search, serving, training  # each adds its commands
from xtrimogene.cli.app import app, main

__all__ = ["app", "atlas", "cells", "evaluation", "main", "protein", "search", "serving", "training"]
