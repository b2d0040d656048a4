"""What is asked of an output before hours of work, and how it is written."""

from pathlib import Path
from typing import TYPE_CHECKING

from xtrimogene.errors import ConfigError, FileFormatError

if TYPE_CHECKING:
    from anndata import AnnData


def check_target(source: Path, out: Path, overwrite: bool, suffix: str = ".h5ad") -> None:
    """Refuse before hours of work what would fail, or destroy the input, after them."""
    if out.suffix != suffix:
        raise ConfigError(f"OUT is {str(out)!r}; a name that ends in {suffix} is needed.")
    if out.exists() and source.exists() and out.samefile(source):
        raise ConfigError(f"OUT is the input {source}; name another file.")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists already; name another file, or add --overwrite.")
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; name a file.")
    if not out.parent.is_dir():
        raise ConfigError(f"The folder {out.parent} does not exist; make it, or name another file.")
    from xtrimogene.long_work import temporary_folder

    with temporary_folder(out):
        pass


def check_table(source: Path) -> None:
    """Refuse a table of cells that could be read but not written."""
    import io

    import h5py
    from anndata.io import write_elem

    from xtrimogene.data.blocks import open_cells

    with open_cells(source) as cells, h5py.File(io.BytesIO(), "w") as file:
        try:
            write_elem(file, "obs", cells.obs)
        except (TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise FileFormatError(
                f"The cells' table (obs) of {source} cannot be written again ({reason}); rename or drop that column."
            ) from None


def write_cells(cells: "AnnData", out: Path) -> None:
    from anndata import settings

    from xtrimogene.long_work import whole_file

    with whole_file(out) as place, settings.override(allow_write_nullable_strings=True):
        cells.write_h5ad(place, compression="gzip")
