"""Files of vectors: what is in them, runs that were stopped, and what is refused before anything is computed."""

import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from xtrimogene.errors import ConfigError, FileFormatError, MissingExtraError, SequenceError
from xtrimogene.protein.embedding import embed as embedding
from xtrimogene.protein.embedding.embed import embed_fasta
from xtrimogene.protein.embedding.embedding_file import read_vectors
from xtrimogene.protein.network.checkpoint import ProteinModel
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.reading.reader import ProteinReader
from xtrimogene.protein.tokenizer import ProteinTokenizer

OURS = ProteinTokenizer.xtrimopglm()
LENGTHS = [5, 90, 12, 1, 64, 30, 7, 33]


class StoppedError(Exception):
    pass


@pytest.fixture
def model(tiny: ProteinLM) -> ProteinModel:
    return ProteinModel(tiny, OURS, name="tiny")


def sequences() -> list[str]:
    return [OURS.decode(np.random.default_rng(n).choice(OURS.standard, n)) for n in LENGTHS]


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "proteins.fasta"
    path.write_text("".join(f">p{i} some protein\n{text}\n" for i, text in enumerate(sequences())))
    return path


def embed(fasta: Path, out: Path, model: ProteinModel, **settings: object) -> embedding.EmbeddedFile:
    return embed_fasta(fasta, out, model, device="cpu", **{"token_budget": 4, "part_seconds": 0.0} | settings)


def stop_after(monkeypatch: pytest.MonkeyPatch, num_blocks: int) -> None:
    """Let a run die before the block after these."""
    seen = iter(range(num_blocks))
    pooled = ProteinReader.pooled

    def dying(self: ProteinReader, *arguments: object) -> np.ndarray:
        if next(seen, None) is None:
            raise StoppedError
        return pooled(self, *arguments)

    monkeypatch.setattr(ProteinReader, "pooled", dying)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_holds_the_vectors_in_the_order_of_the_fasta(fasta: Path, model: ProteinModel, zipped: bool) -> None:
    if zipped:
        fasta = fasta.with_suffix(".fasta.gz")
        fasta.write_bytes(gzip.compress(fasta.with_suffix("").read_bytes()))
    out = fasta.parent / "vectors.h5"
    done = embed(fasta, out, model, window=32, overlap=8)
    found = read_vectors(out)
    assert (done.num_proteins, done.num_residues, done.dim, done.num_resumed) == (8, sum(LENGTHS), 32, 0)
    assert found.names == [f"p{i}" for i in range(8)]
    assert found.lengths.tolist() == LENGTHS
    reader = ProteinReader(model.network, OURS, window=32, overlap=8, device="cpu")
    expected = np.concatenate([reader.pooled([OURS.encode(text)]) for text in sequences()])
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
    assert found.vectors.dtype == np.float32
    assert sorted(path.name for path in fasta.parent.iterdir() if path.suffix != ".fasta") == sorted(
        ["vectors.h5"] + ["proteins.fasta.gz"] * zipped
    )


def test_the_attributes_say_what_it_was_made_of(fasta: Path, model: ProteinModel, tmp_path: Path) -> None:
    import hashlib

    from safetensors.torch import save

    embed(fasta, tmp_path / "vectors.h5", model, window=32, pool="last", causal=True)
    weights = {name: tensor.detach().contiguous() for name, tensor in model.network.state_dict().items()}
    with h5py.File(tmp_path / "vectors.h5") as file:
        assert dict(file.attrs) == {
            "source": "proteins.fasta",
            "source_sha256": hashlib.sha256(fasta.read_bytes()).hexdigest(),
            "model": "tiny",
            "model_sha256": hashlib.sha256(save(weights)).hexdigest(),
            "tokenizer": "xtrimopglm",
            "pool": "last",
            "causal": 1,
            "window": 32,
            "overlap": 16,
            "to_upper": 0,
            "precision": "float32",
        }


def test_a_model_of_clm_alone_is_read_causally_unless_it_is_asked_otherwise(
    fasta: Path, model: ProteinModel, tmp_path: Path
) -> None:
    by_clm = replace(model, card={"training": {"stages": [{"num_steps": 3, "mlm": 0.0, "clm": 1.0}]}})
    embed(fasta, tmp_path / "default.h5", by_clm)
    embed(fasta, tmp_path / "causal.h5", model, causal=True)
    embed(fasta, tmp_path / "both.h5", by_clm, causal=False)
    default, causal, both = (read_vectors(tmp_path / f"{name}.h5").vectors for name in ("default", "causal", "both"))
    np.testing.assert_array_equal(default, causal)
    assert np.abs(default - both).max() > 1e-3


@pytest.mark.parametrize("num_blocks", [0, 1, 3])
def test_a_run_that_was_stopped_goes_on(
    fasta: Path, model: ProteinModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_blocks: int
) -> None:
    whole, out = tmp_path / "whole.h5", tmp_path / "vectors.h5"
    embed(fasta, whole, model)
    with monkeypatch.context() as patch:
        stop_after(patch, num_blocks)
        with pytest.raises(StoppedError):
            embed(fasta, out, model)
    assert not out.exists()
    done = embed(fasta, out, model, token_budget=200)  # a budget is no setting: it changes no vector
    assert (done.num_resumed > 0) == (num_blocks > 0)
    ours, theirs = read_vectors(out), read_vectors(whole)
    assert ours.names == theirs.names
    np.testing.assert_allclose(ours.vectors, theirs.vectors, atol=1e-5)
    assert not (tmp_path / "vectors.h5.parts").exists()


def test_a_stop_costs_no_more_than_its_seconds(
    fasta: Path, model: ProteinModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StoppedError):
            embed(fasta, tmp_path / "vectors.h5", model, part_seconds=3600.0)
        assert not list((tmp_path / "vectors.h5.parts").glob("*.h5"))
    monkeypatch.setattr(embedding, "MOST_HELD", 1)
    stop_after(monkeypatch, 3)
    with pytest.raises(StoppedError):
        embed(fasta, tmp_path / "vectors.h5", model, part_seconds=3600.0)
    assert len(list((tmp_path / "vectors.h5.parts").glob("*.h5"))) == 3


def test_a_file_may_be_renamed_between_two_runs(
    fasta: Path, model: ProteinModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StoppedError):
            embed(fasta, tmp_path / "vectors.h5", model)
    renamed = fasta.rename(tmp_path / "renamed.fasta")
    assert embed(renamed, tmp_path / "vectors.h5", replace(model, name="other")).num_resumed > 0
    with h5py.File(tmp_path / "vectors.h5") as file:
        assert (file.attrs["source"], file.attrs["model"]) == ("renamed.fasta", "other")


@pytest.mark.parametrize("change", ["source", "model", "window"])
def test_parts_of_another_run_are_refused(
    fasta: Path, model: ProteinModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StoppedError):
            embed(fasta, tmp_path / "vectors.h5", model)
    if change == "source":
        fasta.write_text(fasta.read_text() + ">one_more\nMKT\n")
    other = (
        ProteinModel(ProteinLM(model.network.config, seed=2).eval(), OURS, name="tiny") if change == "model" else model
    )
    with pytest.raises(ConfigError, match=f"holds parts of another run, with {change}.*remove it to begin anew"):
        embed(fasta, tmp_path / "vectors.h5", other, **({"window": 16} if change == "window" else {}))


def test_a_part_that_was_lost_is_noticed(
    fasta: Path, model: ProteinModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StoppedError):
            embed(fasta, tmp_path / "vectors.h5", model)
    first = min((tmp_path / "vectors.h5.parts").glob("0-*.h5"))
    first.unlink()
    with pytest.raises(ConfigError, match="misses the part before"):
        embed(fasta, tmp_path / "vectors.h5", model)


def test_one_process_at_a_time_writes_a_file(
    fasta: Path, model: ProteinModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, pooled = tmp_path / "vectors.h5", ProteinReader.pooled
    refused = []

    def meeting_another(self: ProteinReader, *arguments: object) -> np.ndarray:
        with monkeypatch.context() as patch:
            patch.setattr(ProteinReader, "pooled", pooled)
            with pytest.raises(ConfigError) as error:
                embed(fasta, out, model)
        refused.append(str(error.value))
        return pooled(self, *arguments)

    monkeypatch.setattr(ProteinReader, "pooled", meeting_another)
    embed(fasta, out, model)
    assert set(refused) == {f"another process is writing {out}; wait for it or name another file."}
    assert read_vectors(out).names == [f"p{i}" for i in range(8)]


@pytest.mark.parametrize("num_read", [7, 9])
def test_a_fasta_that_changes_meanwhile_gives_no_file(
    fasta: Path, model: ProteinModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_read: int
) -> None:
    records = [(f"p{i}", "MKT") for i in range(num_read)]
    monkeypatch.setattr(embedding, "read_fasta", lambda file: iter(records))
    with pytest.raises(ConfigError, match=f"holds {num_read} proteins and not the 8 of the FASTA; remove it"):
        embed(fasta, tmp_path / "vectors.h5", model)
    assert not (tmp_path / "vectors.h5").exists()


def test_a_record_that_cannot_be_read_is_named_before_anything_is_computed(model: ProteinModel, tmp_path: Path) -> None:
    bad = tmp_path / "bad.fasta"
    for content, message in [
        (">a\nMKT\n>b x\nMK1T\n", r"bad.fasta, record 2 \('b'\): Letter '1' at position 3 is none of"),
        (">a\nMKT\n>b\nmkt\n", "'b'.*Letter 'm' at position 1.*to_upper=True"),
        (">a\nMKT\n>b\nMK\n>a z\nG\n", "records 1 and 3 are both named 'a'; give each its own name"),
    ]:
        bad.write_text(content)
        with pytest.raises(SequenceError, match=message):
            embed(bad, tmp_path / "vectors.h5", model)
    bad.write_text(">a\n>b\nMKT\n")
    with pytest.raises(FileFormatError, match="'a' has no letters"):
        embed(bad, tmp_path / "vectors.h5", model)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.fasta"]


def test_lower_case_is_read_as_capitals_where_that_is_wanted(model: ProteinModel, tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">a\nmktay\n>b\nMKTAY\n")
    embed(tmp_path / "a.fasta", tmp_path / "vectors.h5", model, to_upper=True)
    small, capital = read_vectors(tmp_path / "vectors.h5").vectors
    np.testing.assert_allclose(small, capital, atol=1e-6)


def test_outputs_that_cannot_be_are_refused(fasta: Path, model: ProteinModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in .h5, .hdf5, .parquet"):
        embed(fasta, tmp_path / "vectors.csv", model)
    with pytest.raises(ConfigError, match="nowhere is no folder"):
        embed(fasta, tmp_path / "nowhere" / "vectors.h5", model)
    (tmp_path / "vectors.h5").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        embed(fasta, tmp_path / "vectors.h5", model)
    assert (tmp_path / "vectors.h5").read_text() == "mine"
    embed(fasta, tmp_path / "vectors.h5", model, overwrite=True)
    assert len(read_vectors(tmp_path / "vectors.h5").names) == 8


def test_a_parquet_holds_the_same(fasta: Path, model: ProteinModel, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    embed(fasta, tmp_path / "vectors.h5", model)
    embed(fasta, tmp_path / "vectors.parquet", model)
    table, found = parquet.read_table(tmp_path / "vectors.parquet"), read_vectors(tmp_path / "vectors.h5")
    assert table.column_names == ["name", "length", "vector"]
    assert table["name"].to_pylist() == found.names
    assert table["length"].to_pylist() == found.lengths.tolist()
    np.testing.assert_array_equal(np.asarray(table["vector"].to_pylist(), np.float32), found.vectors)
    with h5py.File(tmp_path / "vectors.h5") as file:
        attributes = {name.encode(): str(value).encode() for name, value in file.attrs.items()}
    assert attributes.items() <= table.schema.metadata.items()


def test_a_parquet_without_its_writer_says_how_to_get_it_before_it_begins(
    fasta: Path, model: ProteinModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xtrimogene\[parquet\]', or write .h5"):
        embed(fasta, tmp_path / "vectors.parquet", model)
    assert not (tmp_path / "vectors.parquet.parts").exists()


def test_the_folder_of_parts_says_what_it_belongs_to(
    fasta: Path, model: ProteinModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 1)
    with pytest.raises(StoppedError):
        embed(fasta, tmp_path / "vectors.h5", model)
    run = json.loads((tmp_path / "vectors.h5.parts" / "run.json").read_text())
    assert (run["pool"], run["window"]) == ("mean", 64)
