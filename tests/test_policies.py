"""What the project promises about itself: public names, light imports, layers, what the wheel holds."""

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from pkgutil import iter_modules

import pytest
import torch
from anndata import AnnData
from scipy.sparse import csr_matrix

import xtrimogene as xt

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = [
    "Client",
    "ModelConfig",
    "PretrainedModel",
    "__version__",
    "atlas",
    "errors",
    "evaluation",
    "get",
    "load",
    "pl",
    "pp",
    "presets",
    "protein",
    "save",
    "serving",
    "tl",
    "training",
    "was_seen",
]
LATE = ["atlas", "evaluation", "protein", "serving", "training"]  # whose names are loaded when they are first used
HEAVY = ["anndata", "fastapi", "h5py", "lightning", "matplotlib", "numpy", "pandas", "ray", "scanpy", "torch"]

ABSENT = ["anndata", "fastapi", "lightning", "matplotlib", "ray", "scanpy", "sklearn", "typer"]
ARRAYS_ONLY = [
    "xtrimogene_kernels",
    "xtrimogene.data",
    "xtrimogene.model",
    "xtrimogene.checkpoint",
    "xtrimogene.scfoundation",
    "xtrimogene.inference",
]


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


def stub_names() -> list[str]:
    names = []
    for node in ast.parse((ROOT / "xtrimogene" / "__init__.pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.asname for alias in node.names if alias.asname]
        elif isinstance(node, ast.AnnAssign):
            names.append(ast.unparse(node.target))
    return sorted(names)


def test_public_names_are_these() -> None:
    assert sorted(xt.__all__) == dir(xt) == stub_names() == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_resolves(name: str) -> None:
    value = getattr(xt, name)
    assert vars(xt)[name] is value  # looked up once


def test_training_is_at_hand_where_nothing_was_imported_yet() -> None:
    names = "xt.training.pretrain, xt.training.read_config, xt.training.PretrainConfig, xt.training.plan"
    code = f"import xtrimogene as xt; print(*(one.__name__ for one in ({names})), *dir(xt.training))"
    found = run(sys.executable, "-W", "ignore", "-c", code).split()
    public = [
        "DataSummary",
        "FineTuneConfig",
        "PretrainConfig",
        "ResponseConfig",
        "fit_annotator",
        "fit_perturbation",
        "fit_response",
        "fit_synergy",
        "plan",
        "pretrain",
        "read_config",
        "summarize_files",
    ]
    assert found == ["pretrain", "read_config", "PretrainConfig", "plan", *public]


def test_evaluation_is_at_hand_and_loads_nobody_elses_methods() -> None:
    names = "xt.evaluation.annotation, xt.evaluation.read_study, xt.evaluation.report, xt.evaluation.AnnotationStudy"
    heavy = "{'celltypist', 'harmonypy', 'jax', 'scvi'} & set(sys.modules)"
    code = f"import sys, xtrimogene as xt; print(*(one.__name__ for one in ({names})), *dir(xt.evaluation), {heavy})"
    found = run(sys.executable, "-W", "ignore", "-c", code).split()
    public = ["AnnotationResult", "AnnotationStudy", "annotation", "read_study", "report"]
    assert found == ["annotation", "read_study", "report", "AnnotationStudy", *public, "set()"]


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = xt.no_such_name


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, xtrimogene; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    assert run(sys.executable, "-c", code).split() == []


def test_arrays_need_no_annotated_data_and_no_compiler() -> None:
    """What stands below ``pp`` imports where only torch, numpy, scipy, pandas and h5py are installed.

    Torch's compiler takes as long to load as torch itself.
    """
    code = (
        "import sys, importlib, pkgutil\n"
        f"sys.modules.update(dict.fromkeys({ABSENT}))\n"
        f"for package in map(importlib.import_module, {ARRAYS_ONLY}):\n"
        "    for found in pkgutil.walk_packages(getattr(package, '__path__', []), package.__name__ + '.'):\n"
        "        importlib.import_module(found.name)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    assert run(sys.executable, "-c", code) == "False\n"


def test_torch_keeps_to_one_thread_after_scanpy(make_counts: Callable[..., csr_matrix]) -> None:
    """With more, processes side by side wait for each other: the tests took twice the time."""
    import scanpy

    assert torch.get_num_threads() == 1
    scanpy.pp.normalize_total(AnnData(make_counts()))
    assert torch.get_num_threads() == 1


def test_imports_point_one_way() -> None:
    run(sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache")


def test_every_import_is_a_declared_dependency() -> None:
    """The packages that other dependencies happen to bring may go with them."""
    declared = {re.split(r"[^\w.-]", line)[0].lower() for line in requires("xtrimogene") or []}
    homes = packages_distributions()
    sources = [*ROOT.glob("xtrimogene/**/*.py"), *ROOT.glob("kernels/**/*.py")]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    tops = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"xtrimogene", "xtrimogene_kernels"}
    assert {top for top in tops if not declared & {*homes.get(top, []), top.replace("_", "-")}} == set()


def test_wheel_holds_the_two_packages_only(tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {Path(name).parts[0] for name in names} == {
        "xtrimogene",
        "xtrimogene_kernels",
        f"xtrimogene-{xt.__version__}.dist-info",
    }
    inside = {"xtrimogene/py.typed", "xtrimogene/__init__.pyi", "xtrimogene_kernels/py.typed"}
    assert inside <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".ipynb", ".ckpt"))]
    assert wheel.stat().st_size < 30_000_000


@pytest.mark.parametrize("package", ["xtrimogene", *(f"xtrimogene.{name}" for name in LATE)])
def test_a_name_that_is_loaded_late_is_no_modules(package: str) -> None:
    loaded = import_module(package)
    modules = {module.name for module in iter_modules(loaded.__path__)}
    assert not modules & set(loaded._HOMES)  # importing the module would put it in the name's place
