"""Make xtrimogene/assets/sample_cells.h5ad: ``python data/build_sample_cells.py hao_pbmc_1336.h5ad``."""

import hashlib
import sys
from pathlib import Path

import pandas as pd
from anndata import AnnData, read_h5ad
from scipy.sparse import csr_matrix

SOURCE_SHA256 = "11721bd445f8d0dcd98820d81dec19d3b68a44447b88c231decb77b9545f79d2"
ASSET = Path(__file__).resolve().parents[1] / "xtrimogene" / "assets" / "sample_cells.h5ad"


def build(source: Path, target: Path) -> None:
    """Copy counts, gene symbols, cell types and lanes, and nothing else; the same source gives the same bytes."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != SOURCE_SHA256:
        sys.exit(f"{source} has sha256 {digest}, and {SOURCE_SHA256} is needed; see data/README.md.")
    cells = read_h5ad(source)
    counts = csr_matrix(cells.X, dtype="float32")
    counts.sum_duplicates()
    obs = pd.DataFrame(
        {key: pd.Categorical(cells.obs[key].astype(str)) for key in ("cell_type", "lane")},
        index=cells.obs_names.astype(str),
    )
    sample = AnnData(counts, obs=obs, var=pd.DataFrame(index=cells.var_names.astype(str)))
    sample.write_h5ad(target, compression="gzip", compression_opts=9)


if __name__ == "__main__":
    build(Path(sys.argv[1]), ASSET)
    print(f"{ASSET}: {ASSET.stat().st_size:,} bytes, sha256 {hashlib.sha256(ASSET.read_bytes()).hexdigest()}")
