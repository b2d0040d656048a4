"""An epoch through annbatch's own loader, in a Python that has it: cells per CPU-second, the best of three.

ENV/bin/python annbatch_loader.py STORE BATCH_SIZE CHUNK_SIZE

annbatch needs Python 3.12, so this file is run by another Python than the one that calls `annbatch_rate`, and imports
nothing of ours.
"""

import subprocess
import sys
import time
from pathlib import Path


def annbatch_rate(python: str, store: Path | str, batch_size: int, chunk_size: int) -> float:
    """Run this file by that Python; one thread."""
    command = [python, "-W", "ignore", __file__, str(store), str(batch_size), str(chunk_size)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    import numpy as np
    import zarr
    from annbatch import DatasetCollection, Loader

    store, batch_size, chunk_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1})
    loader = Loader(
        batch_size=batch_size,
        chunk_size=chunk_size,
        preload_nchunks=32,
        shuffle=True,
        rng=np.random.default_rng(0),
    ).use_collection(DatasetCollection(store, mode="r"))
    best = 0.0
    for _ in range(4):  # the first one also compiles
        start = time.process_time()
        cells = sum(batch["X"].astype(np.float32).shape[0] for batch in loader)
        best = max(best, cells / (time.process_time() - start))
    print(best)


if __name__ == "__main__":
    main()
