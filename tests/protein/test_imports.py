"""Lightning is loaded by training alone, and planning needs no torch."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (
            ["generation.generate", "network.checkpoint", "sequences.sequence_store"],
            ["lightning", "anndata", "pandas", "pyarrow"],
        ),
        (["config", "network.parameters", "planning.plan", "sequences.fasta"], ["torch", "lightning"]),
    ],
)
def test_a_module_loads_no_more_than_it_needs(modules: list[str], absent: list[str]) -> None:
    imports = "; ".join(f"import xtrimogene.protein.{module}" for module in modules)
    code = f"import sys; {imports}; print(*sorted(set({absent}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
