"""A script that is seldom run still finds what it takes from the others."""

import ast
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = {path.stem: ast.parse(path.read_text()) for path in sorted(BENCHMARKS.glob("*.py"))}


def defined(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            names |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    return names


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_takes_from_another_is_there(name: str) -> None:
    for node in ast.walk(SCRIPTS[name]):
        if isinstance(node, ast.ImportFrom) and node.module in SCRIPTS:
            missing = {alias.name for alias in node.names} - defined(SCRIPTS[node.module])
            assert not missing, f"{name}.py takes {missing} from {node.module}.py"
