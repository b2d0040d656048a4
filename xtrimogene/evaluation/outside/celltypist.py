"""CellTypist: its logistic regression on all genes (Dominguez Conde et al., 2022).

By stochastic gradient descent, as its authors train their models: its other solver asks scikit-learn 1.8 and newer for
an option that is gone (Teichlab/celltypist issue 164).
"""

from collections.abc import Mapping

import pandas as pd
from anndata import AnnData

from xtrimogene.evaluation.baselines import log_normalize
from xtrimogene.evaluation.comparison import Method
from xtrimogene.evaluation.outside.quiet import quiet
from xtrimogene.evaluation.trials import Answer, Lesson

CELLTYPIST = Method(features="CellTypist", classifier=None)


def run_celltypist(lesson: Lesson) -> Mapping[Method, Answer]:
    """Train on the cells learned from (`celltypist.train`, else its defaults), and label the others one by one."""
    genes = pd.Index([f"gene {number}" for number in range(lesson.counts.shape[1])])
    with quiet(lesson.seed):
        import celltypist

        model = celltypist.train(
            log_normalize(lesson.counts),
            labels=lesson.labels.astype(str),
            genes=genes.to_numpy(),
            use_SGD=True,
            n_jobs=1,
        )
        asked = AnnData(log_normalize(lesson.asked), var=pd.DataFrame(index=genes))
        found = celltypist.annotate(asked, model=model)
    return {CELLTYPIST: Answer(labels=found.predicted_labels["predicted_labels"].to_numpy(dtype=str))}
