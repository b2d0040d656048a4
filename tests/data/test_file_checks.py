import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from xtrimogene.data.file_checks import check_file
from xtrimogene.errors import FileFormatError, UnsafeFileError


def cells(num_cells: int = 20, num_genes: int = 10) -> ad.AnnData:
    matrix = sp.random(num_cells, num_genes, 0.4, format="csr", dtype=np.float32, random_state=0)
    matrix.data = np.ceil(matrix.data * 9).astype(np.float32)
    obs = pd.DataFrame(
        {"label": pd.Categorical(["a", "b"] * (num_cells // 2))}, index=[f"c{i}" for i in range(num_cells)]
    )
    return ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(num_genes)]))


@pytest.fixture
def h5ad(tmp_path: Path) -> Path:
    path = tmp_path / "cells.h5ad"
    cells().write_h5ad(path)
    return path


@pytest.fixture(params=[2, 3])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "cells.zarr"
    with warnings.catch_warnings(), ad.settings.override(zarr_write_format=request.param):
        warnings.simplefilter("ignore")  # version 2 is on its way out, version 3 will shard by default
        cells().write_zarr(path)
    return path


def test_honest_files_pass(h5ad: Path, store: Path) -> None:
    assert check_file(h5ad) == "h5ad"
    assert check_file(str(h5ad)) == "h5ad"
    assert check_file(store) == "zarr"


@pytest.mark.shared
def test_real_files_pass(shared: Path) -> None:
    for path in sorted((shared / "data").glob("*.h5ad")):
        assert check_file(path) == "h5ad"


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_a_large_matrix_of_few_values_passes(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "dense.h5ad"
    filled = np.random.default_rng(0).random((3_000, 8_000), np.float32) < 0.02
    ad.AnnData(filled.astype(np.float32)).write_h5ad(path, compression=compression)  # 96 MB declared
    assert check_file(path) == "h5ad"


def test_missing_empty_text_zip_and_folder_say_so(tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(FileFormatError) as caught:
            check_file(path)
        assert not isinstance(caught.value, UnsafeFileError)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "does not exist" in refusal(tmp_path / "none.h5ad")
    (tmp_path / "empty.h5ad").touch()
    assert "is empty" in refusal(tmp_path / "empty.h5ad")
    (tmp_path / "text.h5ad").write_text("gene\tcell\n" * 100)
    assert "no HDF5 file" in refusal(tmp_path / "text.h5ad")
    (tmp_path / "cells.zarr.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    assert "zip archive" in refusal(tmp_path / "cells.zarr.zip")
    (tmp_path / "cells.h5ad.gz").write_bytes(b"\x1f\x8b\x08" + bytes(100))
    assert "gzip" in refusal(tmp_path / "cells.h5ad.gz")
    (tmp_path / "folder").mkdir()
    assert "no zarr store" in refusal(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe.h5ad")
    assert "regular file" in refusal(tmp_path / "pipe.h5ad")


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_truncated(h5ad: Path, share: float) -> None:
    whole = h5ad.read_bytes()
    h5ad.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(FileFormatError, match="truncated or damaged|no HDF5 file"):
        check_file(h5ad)


def test_other_hdf5_formats_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "tenx.h5", "w") as file:
        file.create_group("matrix")
    with pytest.raises(FileFormatError, match="read_10x_h5"):
        check_file(tmp_path / "tenx.h5")
    with h5py.File(tmp_path / "cells.loom", "w") as file:
        file["matrix"] = np.ones((2, 2))
        file.create_group("row_attrs")
    with pytest.raises(FileFormatError, match="loom"):
        check_file(tmp_path / "cells.loom")


def test_links_are_refused_without_following_them(h5ad: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["X"] = np.ones((20, 10))
    for link, said in (
        (h5py.ExternalLink(str(secret), "/X"), "another file"),
        (h5py.ExternalLink(str(tmp_path / "not_there.h5"), "/X"), "another file"),
        (h5py.SoftLink("/obs"), "soft link"),
    ):
        with h5py.File(h5ad, "r+") as file:
            file["uns/linked"] = link
        with pytest.raises(UnsafeFileError, match=said):
            check_file(h5ad)
        with h5py.File(h5ad, "r+") as file:
            del file["uns/linked"]
    assert check_file(h5ad) == "h5ad"


def test_external_storage(h5ad: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(os.urandom(800))
    with h5py.File(h5ad, "r+") as file:
        file.create_dataset("layers/counts", (20, 10), "f4", external=[(str(tmp_path / "secret.bin"), 0, 800)])
    with pytest.raises(UnsafeFileError, match="external storage"):
        check_file(h5ad)


def test_virtual_dataset(h5ad: Path) -> None:
    layout = h5py.VirtualLayout((20, 10), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "X", (20, 10))
    with h5py.File(h5ad, "r+") as file:
        file.create_virtual_dataset("layers/counts", layout)
    with pytest.raises(UnsafeFileError, match="virtual"):
        check_file(h5ad)


def test_a_small_file_declaring_32_gb(h5ad: Path) -> None:
    with h5py.File(h5ad, "r+") as file:
        file.create_dataset("layers/counts", (400_000, 20_000), "f4", chunks=(1_000, 1_000), compression="gzip")
    assert h5ad.stat().st_size < 100_000
    with pytest.raises(UnsafeFileError, match="declares 32.0 GB"):
        check_file(h5ad)


def test_many_small_arrays_that_together_declare_too_much(h5ad: Path) -> None:
    with h5py.File(h5ad, "r+") as file:
        for number in range(40):
            file.create_dataset(f"obs/{number}", (10_000_000,), "f4", chunks=(100_000,))
    with pytest.raises(UnsafeFileError, match="together"):
        check_file(h5ad)


def test_nesting_2000_deep(h5ad: Path) -> None:
    with h5py.File(h5ad, "r+") as file:
        group = file["uns"]
        for _ in range(2_000):
            group = group.create_group("g")
    with pytest.raises(UnsafeFileError, match="nest deeper"):
        check_file(h5ad)


def test_a_group_that_holds_itself_ends(h5ad: Path) -> None:
    with h5py.File(h5ad, "r+") as file:
        file["uns/again"] = file["uns"]
        file["uns/root"] = file["/"]
    assert check_file(h5ad) == "h5ad"


def test_too_many_members(h5ad: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xtrimogene.data.storage_limits.MAX_MEMBERS", 15)
    for path in (h5ad, store):
        with pytest.raises(UnsafeFileError, match="more than 15"):
            check_file(path)


def test_object_columns(h5ad: Path) -> None:
    with h5py.File(h5ad, "r+") as file:
        file.create_dataset("obs/pickled", (20,), dtype=h5py.vlen_dtype(np.uint8))
    with pytest.raises(UnsafeFileError, match="holds objects"):
        check_file(h5ad)


def test_a_filter_that_is_not_installed(h5ad: Path) -> None:
    with h5py.File(h5ad, "r+") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((20, 10))
        plist.set_filter(32_099, h5py.h5z.FLAG_OPTIONAL, ())
        h5py.h5d.create(file["layers"].id, b"counts", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((20, 10)), plist)
    with pytest.raises(FileFormatError, match="filter 32099"):
        check_file(h5ad)


def test_zarr_symbolic_link(store: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (store / "X" / "data" / "9").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafeFileError, match="symbolic link"):
        check_file(store)
    (store / "X" / "data" / "9").unlink()
    (store / "layers" / "counts").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(UnsafeFileError, match="symbolic link"):
        check_file(store)


def edit(file: Path, **fields: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def array_metadata(store: Path, name: str) -> Path:
    found = [store / name / kind for kind in (".zarray", "zarr.json") if (store / name / kind).exists()]
    return found[0]


def test_zarr_declaring_more_than_it_stores(store: Path) -> None:
    edit(array_metadata(store, "X/data"), shape=[8_000_000_000])
    with pytest.raises(UnsafeFileError, match="declares 32.0 GB"):
        check_file(store)


def test_zarr_absurd_chunk(store: Path) -> None:
    metadata = array_metadata(store, "X/data")
    if metadata.name == ".zarray":
        edit(metadata, chunks=[10**12])
    else:
        edit(metadata, chunk_grid={"name": "regular", "configuration": {"chunk_shape": [10**12]}})
    with pytest.raises(UnsafeFileError, match="chunks of"):
        check_file(store)


def test_zarr_pickled_objects(store: Path) -> None:
    metadata = array_metadata(store, "obs/_index")
    if metadata.name == ".zarray":
        edit(metadata, filters=[{"id": "pickle", "protocol": 5}])
    else:
        edit(metadata, codecs=[{"name": "numcodecs.pickle", "configuration": {}}])
    with pytest.raises(UnsafeFileError, match="pickle|objects"):
        check_file(store)


def test_zarr_objects_without_a_string_codec(store: Path) -> None:
    metadata = array_metadata(store, "obs/_index")
    if metadata.name != ".zarray":
        pytest.skip("version 3 has no object type")
    edit(metadata, filters=None)
    with pytest.raises(UnsafeFileError, match="objects"):
        check_file(store)


def test_zarr_unreadable_metadata(store: Path) -> None:
    for text in ("{", "[" * 100_000, '{"shape": [1], "dtype": "nonsense", "chunks": [1]}'):
        array_metadata(store, "X/data").write_text(text)
        with pytest.raises(FileFormatError, match="metadata"):
            check_file(store)


def test_zarr_nesting(store: Path) -> None:
    folder = store / "uns"
    for _ in range(200):
        folder = folder / "g"
    folder.mkdir(parents=True)
    with pytest.raises(UnsafeFileError, match="nest deeper"):
        check_file(store)


def test_checking_imports_no_reader(h5ad: Path) -> None:
    code = (
        "import sys; from xtrimogene.data.file_checks import check_file; "
        f"check_file({str(h5ad)!r}); print('anndata' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
