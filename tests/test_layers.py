"""The layers of the package, held by reading its imports."""

import ast
import re
import sys
from pathlib import Path

import pytest

import sk_mtl

ROOT = Path(sk_mtl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

SCIENCE = {"numpy", "pandas", "scipy", "sklearn"}

LAYERS = {
    # layer: (what it may import from outside, and which layers of sk_mtl); its own and `_checks`
    # always
    "_version": (set(), set()),
    "_checks": (set(), set()),
    "_compat": ({"sklearn"}, {"_version"}),
    "_files": ({"safetensors", "torch"}, set()),
    "nn": ({"torch"}, set()),
    "balancing": ({"torch", "torchjd"}, set()),
    "tasks": ({"torch", "numpy", "sklearn"}, set()),
    "numeric": ({"numpy"}, set()),
    "categorical": ({"numpy"}, set()),
    "data": (
        SCIENCE | {"torch", "pyarrow", "fsspec"},
        {"_compat", "categorical", "numeric", "tasks"},
    ),
    "_training": ({"torch", "skorch", "numpy"}, {"balancing", "data", "nn", "tasks"}),
    "_params": ({"numpy"}, {"_compat", "data"}),
    "_reporting": (set(), set()),
    "_views": ({"numpy", "pandas", "sklearn"}, {"_compat", "tasks"}),
    "_encoding": ({"numpy"}, {"data"}),
    "_prediction": (
        SCIENCE | {"torch"},
        {"_encoding", "_training", "_views", "data", "nn", "tasks"},
    ),
    "_sources": (SCIENCE | {"torch"}, {"data", "tasks"}),
    "_bulk": (
        {"numpy", "pyarrow", "sklearn", "torch"},
        {"_prediction", "_sources", "data", "tasks"},
    ),
    "_streaming": (
        {"numpy", "sklearn", "torch"},
        {"_networks", "_prediction", "_preparing", "_sources", "_training", "data", "tasks"},
    ),
    "_monitoring": ({"numpy", "torch"}, {"_prediction", "_training", "data", "tasks"}),
    "_networks": (
        {"torch"},
        {"_bulk", "_params", "_prediction", "_training", "balancing", "nn", "tasks"},
    ),
    "_preparing": (
        {"numpy", "sklearn", "torch"},
        {"_monitoring", "_networks", "_prediction", "_training", "data", "nn", "tasks"},
    ),
    "_checkpoints": ({"numpy", "torch"}, {"_files", "_forms", "_training", "_version"}),
    "_fitting": (
        {"sklearn"},
        {
            "_checkpoints", "_networks", "_params", "_preparing", "_reporting", "_sources",
            "_streaming", "_training", "data",
        },
    ),
    "_forms": (
        {"numpy", "pandas", "sklearn", "torch"},
        {"balancing", "categorical", "numeric", "tasks"},
    ),
    "persistence": (
        {"numpy", "sklearn", "torch"},
        {
            "_files", "_forms", "_prediction", "_training", "_version", "_views", "balancing",
            "categorical", "data", "nn", "numeric", "tasks",
        },
    ),
    "base": (
        SCIENCE | {"torch"},
        {
            "_compat", "_fitting", "_params", "_reporting", "_training", "balancing", "categorical",
            "data", "nn", "numeric", "persistence", "tasks",
        },
    ),
    "_search_space": ({"scipy"}, {"_params", "base"}),
    "_chains": ({"numpy", "torch"}, {"_params", "base", "data", "nn", "tasks"}),
    "architectures": ({"torch"}, {"_chains", "_training", "base", "nn"}),
    "metrics": (SCIENCE, {"_compat", "_views", "data"}),
    "model_selection": (SCIENCE, {"_compat", "_views", "data"}),
    "export": (
        {"numpy", "onnx", "onnxscript", "pandas", "skl2onnx", "sklearn", "torch"},
        {"_version", "_views", "base", "categorical", "data", "nn", "tasks"},
    ),
    "inspection": (
        {"matplotlib", "numpy", "pandas", "sklearn", "torch"},
        {"_training", "_views", "balancing", "base", "data", "nn", "tasks"},
    ),
    "datasets": (SCIENCE, set()),
    "__init__": (
        set(),
        {
            "_checkpoints", "_search_space", "_training", "_version", "_views", "architectures",
            "export", "persistence",
        },
    ),
}  # fmt: skip
"""What each layer may import. `__main__` is a user of the package, and imports what it likes."""

ONLY_IN = {
    # what, and in which files of a layer alone it may be imported
    ("data", "torch"): {"data/bags.py", "data/rows.py", "data/windows.py"},
    ("data", "pyarrow"): {
        "data/footers.py",
        "data/frames.py",
        "data/parquet.py",
        "data/reading.py",
        "data/storage.py",
        "data/writing.py",
    },
    ("data", "fsspec"): {"data/storage.py", "data/writing.py"},
}
"""Imports that a layer may have in some of its files only."""

MAY_CALL_SKORCH = {"_training", "__main__"}


def layer(path):
    """Return the layer a file belongs to: its folder, or itself."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Return the modules that a file imports anywhere, functions included, by full name."""
    package = ["sk_mtl", *path.relative_to(ROOT).parts[:-1]]
    return set(read_imports(path.read_text(encoding="utf-8"), package))


def read_imports(source, package):
    """Yield the modules that a source text imports if it stands in `package`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            if module == "sk_mtl":  # from sk_mtl import tasks: a layer, or a public name
                yield from (f"sk_mtl.{alias.name}" for alias in node.names)
            else:
                yield module


def relative_name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=relative_name)
def test_imports_stay_within_the_layer(path):
    here = layer(path)
    if here == "__main__":
        return
    outside, inside = LAYERS[here]
    for module in imports(path):
        top, *rest = module.split(".")
        if top == "sk_mtl":
            assert rest[0] in inside | {here, "_checks"}, f"{here} imports {module}"
        else:
            assert top in outside | sys.stdlib_module_names, f"{here} imports {module}"
            alone = ONLY_IN.get((here, top), {relative_name(path)})
            assert relative_name(path) in alone, f"{here} imports {module} in another file"


def test_every_layer_exists():
    found = {layer(path) for path in FILES}
    assert found - {"__main__"} == set(LAYERS)


def test_architectures_never_import_each_other():
    for path in (ROOT / "architectures").glob("[!_]*.py"):
        inner = [module for module in imports(path) if module.startswith("sk_mtl.architectures")]
        assert inner == [], path.name


def test_only_training_imports_skorch():
    users = {layer(path) for path in FILES if any(m.startswith("skorch") for m in imports(path))}
    assert users <= MAY_CALL_SKORCH


def test_training_knows_of_data_only_rows():
    for path in (ROOT / "_training").glob("*.py"):
        used = {module for module in imports(path) if module.startswith("sk_mtl.data")}
        assert used <= {"sk_mtl.data.rows", "sk_mtl.data.windows"}, path.name


def test_architectures_know_of_training_only_the_objective():
    for path in (ROOT / "architectures").glob("*.py"):
        used = imported_names(path.read_text(encoding="utf-8"))
        assert {n for n in used if n.startswith("sk_mtl._training")} <= OBJECTIVE, path.name


OBJECTIVE = {"sk_mtl._training.Objective", "sk_mtl._training.objective.Objective"}


def imported_names(source):
    """Return what a source text imports: names of modules, and names with their modules."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module or ''}.{alias.name}" for alias in node.names}
    return found


def privates(source):
    """Return the private names of scikit-learn that a source text imports or reaches by dots."""
    found = {name for name in imported_names(source) if name.startswith("sklearn")}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            found |= {text} if text.startswith("sklearn.") else set()
    return {name for name in found if any(re.match("_(?!_)", part) for part in name.split("."))}


@pytest.mark.parametrize("path", FILES, ids=relative_name)
def test_private_names_of_scikit_learn_are_imported_in_one_file(path):
    found = privates(path.read_text(encoding="utf-8"))
    if relative_name(path) == "_compat.py":
        assert found
    else:
        assert not found


@pytest.mark.parametrize(
    ("source", "n"),
    [
        ("from sklearn.utils import _safe_indexing, check_array", 1),
        ("def f():\n    from sklearn.utils._tags import get_tags", 1),
        ("import sklearn.utils._param_validation as p", 1),
        ("import sklearn\nsklearn.utils._safe_indexing(x, 1)", 1),
        ("import sklearn\nsklearn.__version__\nfrom sklearn.utils import check_array", 0),
        ("from sk_mtl._compat import _safe_indexing", 0),
    ],
)
def test_reading_private_names(source, n):
    assert len(privates(source)) == n


@pytest.mark.parametrize("optional", ["fsspec", "matplotlib", "pyarrow", "safetensors", "torchjd"])
def test_optional_packages_are_imported_inside_functions_only(optional):
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            text = ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom) else ""
            assert optional not in text, path.name


@pytest.mark.parametrize(
    "path", sorted((ROOT / "architectures").glob("[!_]*.py")), ids=relative_name
)
def test_an_architecture_is_one_short_file(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize("path", FILES, ids=relative_name)
def test_no_file_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 470


def test_reading_imports():
    source = "import a.b as c\nfrom . import x\nfrom ..nn import y\ndef f():\n    from d.e import g"
    found = set(read_imports(source, ["sk_mtl", "architectures"]))
    assert found == {"a.b", "sk_mtl.architectures", "sk_mtl.nn", "d.e"}
