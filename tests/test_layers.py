"""The layers of the package, held by reading its imports."""

import ast
import sys
from pathlib import Path

import pytest

import sk_mtl

ROOT = Path(sk_mtl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

SCIENCE = {"numpy", "pandas", "scipy", "sklearn"}

LAYERS = {
    # layer: (what it may import from outside, and which layers of sk_mtl); its own always
    "_version": (set(), set()),
    "nn": ({"torch"}, set()),
    "balancing": ({"torch", "torchjd"}, set()),
    "tasks": ({"torch", "numpy", "sklearn"}, set()),
    "_params": ({"numpy", "sklearn"}, set()),
    "_reporting": ({"sklearn"}, set()),
    "_tables": (SCIENCE, set()),
    "_inputs": (SCIENCE, {"_params", "_tables", "tasks"}),
    "_lookup": ({"numpy", "pandas"}, set()),
    "_features": (SCIENCE, {"_lookup", "_tables"}),
    "_training": ({"torch", "skorch", "numpy"}, {"tasks", "balancing", "nn"}),
    "_views": ({"numpy", "sklearn"}, {"tasks"}),
    "_prediction": (
        SCIENCE | {"torch"},
        {"_features", "_inputs", "_params", "_tables", "_training", "_views", "nn", "tasks"},
    ),
    "persistence": (
        {"numpy", "pandas", "safetensors", "sklearn", "torch"},
        {"_features", "_prediction", "_training", "_version", "balancing", "tasks"},
    ),
    "base": (
        SCIENCE | {"torch"},
        {
            "_features", "_inputs", "_params", "_prediction", "_reporting", "_tables",
            "_training", "balancing", "nn", "persistence", "tasks",
        },
    ),
    "architectures": ({"torch"}, {"nn", "base"}),
    "metrics": (SCIENCE, {"_inputs", "_tables", "_views"}),
    "model_selection": (SCIENCE, {"_tables", "_views"}),
    "inspection": (
        {"matplotlib", "numpy", "pandas", "sklearn", "torch"},
        {"_inputs", "_training", "balancing", "base", "nn", "tasks"},
    ),
    "datasets": (SCIENCE, set()),
    "__init__": (set(), {"_training", "_version", "_views", "architectures", "persistence"}),
}  # fmt: skip
"""What each layer may import. `__main__` is a user of the package, and imports what it likes."""

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
            assert rest[0] in inside | {here}, f"{here} imports {module}"
        else:
            assert top in outside | sys.stdlib_module_names, f"{here} imports {module}"


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


@pytest.mark.parametrize("optional", ["matplotlib", "safetensors", "torchjd"])
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
