"""Harmony: HVG + PCA of all cells, then corrected for where they come from (Korsunsky et al., 2019).

Letters: N cells learned from and asked for.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from xtrimogene.evaluation.baselines import joint_hvg_pca
from xtrimogene.evaluation.choice import read_features
from xtrimogene.evaluation.comparison import Method
from xtrimogene.evaluation.outside.quiet import quiet
from xtrimogene.evaluation.trials import Answer, Lesson

HARMONY = "Harmony*"


def run_harmony(lesson: Lesson, strengths: Sequence[float]) -> Mapping[Method, Answer]:
    """Correct the joint PCA for batches; it needs the test cells' counts, and cells of two batches."""
    cells, asked = joint_hvg_pca(lesson.counts, lesson.asked, seed=lesson.seed)
    placed = np.concatenate([cells, asked])  # (N, 50)
    batches = np.concatenate([lesson.batches, lesson.asked_batches])
    with quiet(lesson.seed):
        import harmonypy

        found = harmonypy.run_harmony(
            placed, pd.DataFrame({"batch": batches}), ["batch"], random_state=lesson.seed, verbose=False, ncores=1
        )
    corrected = np.asarray(found.Z_corr, dtype=np.float32)
    corrected = corrected if corrected.shape == placed.shape else corrected.T
    number = len(cells)
    return read_features(HARMONY, corrected[:number], corrected[number:], lesson, strengths, scaling="each")
