"""The released layout: the same numbers, by name, and no pickle that could run code."""

import os
import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
from scipy import sparse

from xtrimogene.checkpoint import PretrainedModel, load, save
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import CheckpointError
from xtrimogene.inference import Inference
from xtrimogene.scfoundation import read_scfoundation

pytestmark = pytest.mark.shared
Expected = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def reference(shared: Path) -> Path:
    return shared / "reference" / "scfoundation_small"


@pytest.fixture(scope="module")
def models(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PretrainedModel]:
    """All three, after a round trip through our own format."""
    folder = tmp_path_factory.mktemp("converted")
    for key in ("cell", "rde", "gene"):
        save(read_scfoundation(reference / "models.ckpt", reference / "genes.tsv", key=key), folder / key)  # type: ignore[arg-type]
    return {key: load(folder / key) for key in ("cell", "rde", "gene")}


@pytest.fixture(scope="module")
def expected(reference: Path) -> Expected:
    return dict(np.load(reference / "expected.npz"))


def read_counts(path: Path, genes: GeneVocabulary) -> sparse.csr_matrix:
    adata = anndata.read_h5ad(path)
    return genes.match({"var_names": adata.var_names.tolist()}).apply(sparse.csr_matrix(adata.X))


@pytest.fixture(scope="module")
def counts(reference: Path, models: dict[str, PretrainedModel]) -> sparse.csr_matrix:
    return read_counts(reference / "counts.h5ad", models["cell"].genes)


@pytest.mark.parametrize("token_budget", [1, 5_000, 1_000_000], ids=["alone", "some", "together"])
@pytest.mark.parametrize(
    ("array", "key", "pool", "read_depth"),
    [
        ("cell_all_t4", "cell", "all", "t4"),
        ("cell_max_t4", "cell", "max", "t4"),
        ("rde_cell_all_f1", "rde", "all", "f1"),
        ("rde_cell_all_a5", "rde", "all", "a5"),
        ("cell_all_t4.5_prenormalized", "cell", "all", "t4.5"),
        ("cell_all_t4_subset", "cell", "all", "t4"),
    ],
)
def test_cell_embeddings_are_the_released_ones(
    array: str,
    key: str,
    pool: str,
    read_depth: str,
    token_budget: int,
    models: dict[str, PretrainedModel],
    counts: sparse.csr_matrix,
    expected: Expected,
    reference: Path,
) -> None:
    if array.endswith("_subset"):
        counts = read_counts(reference / "counts_subset.h5ad", models[key].genes)
    got = Inference(models[key], device="cpu", token_budget=token_budget).cell_embeddings(
        counts,
        pool=pool,  # type: ignore[arg-type]
        read_depth=read_depth,
        normalized=array.endswith("_prenormalized"),  # the raw counts, given as normalized values
    )
    assert np.abs(got - expected[array]).max() <= 1e-5


def test_gene_embeddings_are_the_released_ones(
    models: dict[str, PretrainedModel], counts: sparse.csr_matrix, expected: Expected
) -> None:
    inference = Inference(models["gene"], device="cpu", token_budget=60_000)  # all three cells at once
    got = inference.gene_embeddings(counts[:3], read_depth="f1")
    assert np.abs(got - expected["gene_f1_first3"]).max() <= 1e-5
    some = np.array([19_263, 0, 7])
    got = inference.gene_embeddings(counts[:3], genes=some, read_depth="f1")
    assert np.abs(got - expected["gene_f1_first3"][:, some]).max() <= 1e-5


@pytest.mark.parametrize("token_budget", [1, 60_000], ids=["alone", "some"])
def test_expression_is_the_released_one(
    token_budget: int, models: dict[str, PretrainedModel], counts: sparse.csr_matrix, expected: Expected
) -> None:
    got = Inference(models["gene"], device="cpu", token_budget=token_budget).expression(counts, read_depth="f1")
    assert np.abs(got - expected["gene_expression_f1"]).max() <= 1e-5


def test_every_expected_array_is_compared(expected: Expected) -> None:
    assert set(expected) == {
        "cell_all_t4",
        "cell_max_t4",
        "rde_cell_all_f1",
        "rde_cell_all_a5",
        "cell_all_t4.5_prenormalized",
        "cell_all_t4_subset",
        "gene_f1_first3",
        "gene_expression_f1",
    }


def test_the_converted_model_keeps_the_released_defaults(models: dict[str, PretrainedModel]) -> None:
    config = models["cell"].config
    assert (config.pool, config.read_depth, config.unmeasured) == ("all", "t4", "zero")
    assert not config.encoder.norm_first
    assert "non-commercial" in models["cell"].card["licence"]
    assert models["rde"].card["source"]["key"] == "rde"


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def refuse(path: Path, reference: Path, message: str, **options: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_scfoundation(path, options.pop("genes", reference / "genes.tsv"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(new_format: bool, tmp_path: Path, reference: Path) -> None:
    path, trace = tmp_path / "models.ckpt", tmp_path / "it-ran"
    torch.save({"cell": Malicious(trace)}, path, _use_new_zipfile_serialization=new_format)
    refuse(path, reference, "more than tensors and plain values")
    assert not trace.exists()


@pytest.mark.parametrize(
    "content", [b"", b"gene_name\tindex\nA1BG\t0\n", b"PK\x03\x04 not a zip", bytes(1000), b"\x80\x02}q\x00."]
)
def test_another_file_under_the_name_is_refused(content: bytes, tmp_path: Path, reference: Path) -> None:
    path = tmp_path / "models.ckpt"
    path.write_bytes(content)
    refuse(path, reference, "is not a torch checkpoint|is a pickle that holds more")


def test_a_truncated_file_is_refused(tmp_path: Path, reference: Path) -> None:
    path = tmp_path / "models.ckpt"
    path.write_bytes((reference / "models.ckpt").read_bytes()[:100_000])
    refuse(path, reference, "not a torch checkpoint")


def test_a_missing_file_is_named(tmp_path: Path, reference: Path) -> None:
    refuse(tmp_path / "models.ckpt", reference, "No file .*models.ckpt")


def test_a_missing_key_names_the_others(tmp_path: Path, reference: Path) -> None:
    content = torch.load(reference / "models.ckpt", weights_only=True)
    torch.save({"rde": content["rde"], "gene": content["gene"]}, tmp_path / "models.ckpt")
    refuse(tmp_path / "models.ckpt", reference, r"holds rde, gene; a model named 'cell' is needed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["cell"].pop("config"), "must hold 'config' and 'state_dict'"),
        (lambda c: c["cell"]["state_dict"].pop("model.pos_emb.weight"), "pos_emb.weight.* is missing"),
        (lambda c: c["cell"]["config"]["model_config"].clear(), "mae_autobin.* is missing"),
        (
            lambda c: c["cell"]["state_dict"].update({"model.to_final.weight": torch.zeros(1, 25)}),
            r"'head.weight' has shape \(1, 25\), not \(1, 24\)",
        ),
        (lambda c: c["cell"].update(state_dict=3), "released"),
        (lambda c: c["cell"].update(config=[]), "released"),
        (lambda c: c["cell"]["state_dict"].update({"model.norm.bias": [1.0]}), "released"),
        (lambda c: c["cell"]["config"].update(model_config=[]), "released"),
        (lambda c: c["cell"]["config"]["model_config"]["mae_autobin"]["encoder"].update(heads=5), "heads"),
        (lambda c: c["cell"]["config"]["model_config"]["mae_autobin"].update(seq_len="19266"), "released"),
    ],
)
def test_a_misfit_is_refused(change: object, message: str, tmp_path: Path, reference: Path) -> None:
    content = torch.load(reference / "models.ckpt", weights_only=True)
    change(content)  # type: ignore[operator]
    torch.save(content, tmp_path / "models.ckpt")
    refuse(tmp_path / "models.ckpt", reference, message)


def test_another_gene_list_is_refused(tmp_path: Path, reference: Path) -> None:
    genes = tmp_path / "genes.tsv"
    shutil.copyfile(reference / "genes.tsv", genes)
    genes.write_text("".join(genes.read_text().splitlines(keepends=True)[:-1]))
    refuse(reference / "models.ckpt", reference, "lists 19,263 genes and the model .* has 19,264", genes=str(genes))
