"""One vector per protein of a FASTA, into a file.

The FASTA is read as a stream, in blocks of a few batches; what is done lies in a folder beside the output, from which a
run that was stopped goes on.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from jaxtyping import Int64

from xtrimogene.checkpoint import weights_to_bytes
from xtrimogene.config import require
from xtrimogene.data.read_ahead import read_ahead
from xtrimogene.long_work import progress_bar
from xtrimogene.protein.embedding.embedding_file import ProteinVectors
from xtrimogene.protein.embedding.parts_folder import PartsFolder
from xtrimogene.protein.embedding.vector_parquet import require_pyarrow
from xtrimogene.protein.network.checkpoint import ProteinModel
from xtrimogene.protein.network.trained_by import reads_causally
from xtrimogene.protein.reading.batches import AHEAD
from xtrimogene.protein.reading.reader import ProteinPool, ProteinReader, ReaderPrecision
from xtrimogene.protein.sequences.fasta import read_fasta
from xtrimogene.protein.sequences.fasta_survey import survey_fasta

SUFFIXES = (".h5", ".hdf5", ".parquet")
MOST_HELD = 2**25  # numbers of vectors in memory: 128 MiB
Record = tuple[str, Int64[np.ndarray, "_"]]


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedFile:
    """What was written; ``num_resumed`` proteins of it by earlier runs that were stopped."""

    path: Path
    num_proteins: int
    num_residues: int
    dim: int
    num_resumed: int


def embed_fasta(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: ProteinModel,
    *,
    pool: ProteinPool = "mean",
    causal: bool | None = None,
    window: int | None = None,
    overlap: int | None = None,
    to_upper: bool = False,
    device: str | torch.device | None = None,
    token_budget: int | None = None,
    precision: ReaderPrecision = "float32",
    part_seconds: float = 60.0,
    overwrite: bool = False,
) -> EmbeddedFile:
    """Write one vector per protein, in the order of the FASTA.

    The output is HDF5 with ``names``, ``lengths`` and ``vectors`` (float32, proteins x width), or a parquet with
    ``name``, ``length`` and ``vector``, by its suffix; its attributes name the source, the model's weights and the
    settings. The same command goes on with a run that was stopped: its parts lie in OUT.parts until the end.

    Parameters
    ----------
    source
        FASTA, gzipped or not. A protein's name is the first word after its ``>``.
    pool
        "mean" of the residues' vectors, or that of the "last" residue, which has read all others of a causal model.
    causal
        Each residue sees those before it only. Default: in a model that was trained by CLM alone.
    window, overlap
        Tokens read at once, marks included (default and most: what the model was trained on), and how many of them
        neighbours share (default: half). A residue of a longer protein gets the plain mean of its vectors in all
        windows that hold it.
    to_upper
        Read lower-case letters as capitals.
    token_budget
        Tokens a batch may hold. Bounds memory and never changes a result.
    precision
        "bfloat16" is faster on a GPU.
    part_seconds
        How much work a stop may cost.
    overwrite
        Replace ``out`` where it exists.

    Raises
    ------
    FileFormatError
        No such file, no FASTA, or a record without letters.
    SequenceError
        A letter that is none, or a name that occurs twice; found before anything is computed.
    ConfigError
        A setting that cannot work, an output that exists or cannot be written, parts of another run beside it,
        or another process that writes it.
    MissingExtraError
        A .parquet without the extra ``parquet``.
    """
    file, target = Path(source), Path(out)
    require(target.suffix in SUFFIXES, f"{target} must end in {', '.join(SUFFIXES)}: HDF5 or parquet is written.")
    if target.suffix == ".parquet":
        require_pyarrow(target)
    require(overwrite or not target.exists(), f"{target} exists already; name another file, or set overwrite=True.")
    require(target.parent.is_dir(), f"{target.parent} is no folder; make it first, or name another output.")
    require(pool in get_args(ProteinPool), f"pool={pool!r} is not one of {', '.join(get_args(ProteinPool))}.")
    reader = ProteinReader(
        model.network,
        model.tokenizer,
        device=device,
        token_budget=token_budget,
        window=window,
        overlap=overlap,
        causal=reads_causally(model) if causal is None else causal,
        precision=precision,
    )
    survey = survey_fasta(file, model.tokenizer, to_upper=to_upper)
    run: dict[str, str | int] = {
        "source_sha256": survey.sha256,
        "model_sha256": hashlib.sha256(weights_to_bytes(model.network, torch.float32)).hexdigest(),
        "tokenizer": model.tokenizer.name,
        "pool": pool,
        "causal": int(reader.causal),
        "window": reader.window,
        "overlap": reader.overlap,
        "to_upper": int(to_upper),
        "precision": precision,
    }
    with PartsFolder.open(target.with_name(f"{target.name}.parts"), run) as folder:
        num_resumed = folder.num_done
        records = ((name, model.tokenizer.encode(text, to_upper=to_upper)) for name, text in read_fasta(file))
        blocks = _blocks(islice(records, num_resumed, None), AHEAD * reader.token_budget)
        with progress_bar("proteins", survey.num_proteins) as advance:
            advance(num_resumed)
            ready = read_ahead(blocks) if reader.device.type == "cuda" else blocks
            for part in _parts(reader, ready, pool, part_seconds, advance):
                folder.add(part)
        folder.join(target, {"source": file.name, "model": model.name}, survey.num_proteins)
    return EmbeddedFile(
        path=target,
        num_proteins=survey.num_proteins,
        num_residues=survey.num_residues,
        dim=reader.dim,
        num_resumed=num_resumed,
    )


def _blocks(records: Iterator[Record], num_residues: int) -> Iterator[list[Record]]:
    """So many residues at a time: what is in memory at once, and what similar lengths are sought in."""
    block: list[Record] = []
    held = 0
    for record in records:
        block.append(record)
        held += len(record[1])
        if held >= num_residues:
            yield block
            block, held = [], 0
    if block:
        yield block


def _parts(
    reader: ProteinReader,
    blocks: Iterator[list[Record]],
    pool: ProteinPool,
    part_seconds: float,
    advance: Callable[[int], None],
) -> Iterator[list[ProteinVectors]]:
    """Embed, and yield what was done in so many seconds."""
    done, began = list[ProteinVectors](), time.monotonic()
    for block in blocks:
        names, sequences = [name for name, _ in block], [ids for _, ids in block]
        lengths = np.asarray([len(ids) for ids in sequences])
        done.append(ProteinVectors(names, lengths, reader.pooled(sequences, pool)))
        advance(len(block))
        full = sum(one.vectors.size for one in done) >= MOST_HELD
        if full or time.monotonic() - began >= part_seconds:
            yield done
            done, began = [], time.monotonic()
    if done:
        yield done
