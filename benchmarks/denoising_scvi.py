"""scVI (Lopez et al., 2018) as a denoiser of the cells that it is trained on.

Its defaults, but for the length of training: its authors' rule gives 400 epochs to so few cells, which takes too long
here, so it may be trained too little. It ends after as many epochs as make 700 steps, or when the loss of a tenth of
the cells has not fallen for 45 epochs. (In runs by hand on cells of --training, kept nowhere, 200 and 400 epochs told
removed molecules worse than 100 did.) The mean of 25 samples of the latent vector.
"""

from importlib.util import find_spec

import numpy as np
from anndata import AnnData
from jaxtyping import Float
from scipy.sparse import csr_matrix

from xtrimogene.evaluation.outside.quiet import quiet

RULE, MOST_STEPS = 400, 700  # epochs that scVI's authors give to 20,000 cells and fewer; steps
NUM_SAMPLES, TRAINED = 25, 0.9


def is_installed() -> bool:
    return find_spec("scvi") is not None


def scvi_shares(counts: csr_matrix, *, seed: int) -> tuple[Float[np.ndarray, "B G"], int]:
    """Return the share of each gene that scVI expects of each cell, and the epochs for which it was trained."""
    cells = AnnData(counts.copy())
    trained = round(TRAINED * cells.n_obs)
    size = next(size for size in range(128, 160) if 1 not in (trained % size, cells.n_obs % size))  # batch norm
    with quiet(seed):
        from scvi.model import SCVI

        SCVI.setup_anndata(cells)
        model = SCVI(cells)
        epochs = min(RULE, MOST_STEPS // -(-trained // size))
        model.train(
            max_epochs=epochs, train_size=TRAINED, early_stopping=True, batch_size=size, accelerator="cpu", devices=1,
            logger=False, enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
        )  # fmt: skip
        shares = model.get_normalized_expression(n_samples=NUM_SAMPLES, return_numpy=True)
        return np.asarray(shares), int(model.trainer.current_epoch)
