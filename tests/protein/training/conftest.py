"""A tiny run over a few sequences."""

from pathlib import Path

import numpy as np
import pytest

from xtrimogene.protein.config import ObjectiveStage, ProteinConfig, ProteinPretrainConfig


@pytest.fixture
def config(tmp_path: Path) -> ProteinPretrainConfig:
    """Twelve steps of all objectives, in two stages, two passes a step, several epochs."""
    random = np.random.default_rng(0)
    lines = []
    for number, length in enumerate(random.integers(5, 60, 20).tolist()):
        lines += [f">s{number}", "".join(random.choice(list("MKTAYL"), length))]
    (tmp_path / "a.fasta").write_text("\n".join(lines))
    return ProteinPretrainConfig(
        files=(str(tmp_path / "a.fasta"),),
        output=str(tmp_path / "run"),
        stages=(
            ObjectiveStage(num_steps=5, mlm=1.0),
            ObjectiveStage(num_steps=7, mlm=0.25, clm=0.25, span=0.25, suffix=0.25),
        ),
        model=ProteinConfig(dim=16, num_layers=1, num_heads=2, vocabulary_size=40, max_length=32),
        tokens_per_step=160,
        tokens_per_pass=90,
        peak_lr=1e-2,
        checkpoint_every=2,
        log_every=1,
    )
