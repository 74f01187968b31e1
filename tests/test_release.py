"""What would be published: archives that install, and run outside of the checkout."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LEFT = shutil.ignore_patterns(
    *(".git", ".*_cache", ".hypothesis", ".sklearn-*", ".venv*", "__pycache__", "*.egg-info"),
    *("build", "dist", "_build", "auto_examples", "backreferences", "generated"),
)
"""What a checkout may hold that belongs in no archive; a copy without it is built."""

SCRIPT = """
import sys
from pathlib import Path

import numpy as np
import sk_mtl
from sk_mtl.datasets import make_census_like

assert Path(sk_mtl.__file__).is_relative_to(sys.argv[1]), sk_mtl.__file__
X, Y = make_census_like(300, random_state=0)
model = sk_mtl.MMoE(n_experts=2, max_epochs=1, n_members=1, random_state=0).fit(X, Y)
model.save("model.safetensors")
again = sk_mtl.load("model.safetensors")
assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
"""


def run(*command, cwd, path=None):
    """Run Python in a folder, and return what it printed; `path` is where it looks first."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {} if path is None else {"PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Return the folder of a source archive, and of the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("release")
    shutil.copytree(ROOT, folder / "checkout", ignore=LEFT)
    command = ("-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), ".")
    run(*command, cwd=folder / "checkout")
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(dist):
    """Return a folder with the wheel, installed beside the packages that are there."""
    (wheel,) = dist.glob("*.whl")
    target = dist.parent / "installed"
    options = ("--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(target))
    run("-m", "pip", "install", *options, str(wheel), cwd=dist)
    return target


@pytest.fixture(scope="module")
def unpacked(dist):
    """Return the source archive's folder, without the package: only the wheel's can be found."""
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(dist.parent / "unpacked", filter="data")
    (folder,) = (dist.parent / "unpacked").iterdir()
    shutil.rmtree(folder / "sk_mtl")
    return folder


def test_the_index_would_take_them(dist):
    shown = run("-m", "twine", "check", "--strict", *map(str, dist.iterdir()), cwd=dist)
    assert shown.count("PASSED") == 2


def test_the_wheel_holds_the_package_alone(dist):
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"sk_mtl"}
    assert "sk_mtl/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sk_mtl").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == here


def test_the_source_archive_holds_tests_and_pages(unpacked):
    for name in (
        *("LICENSE", "CHANGELOG.md", "CITATION.cff", "MANIFEST.in", ".ci/run"),
        *("tests/conftest.py", "tests/constraints.txt", "tests/golden/MMoE.json"),
        *("tests/reference/mmoe.py", "docs/conf.py", "docs/_static/site.css"),
        *("benchmarks/__main__.py", "docs/results/adult.md"),
    ):
        assert (unpacked / name).is_file(), name
    assert not list(unpacked.rglob("__pycache__"))


def test_the_wheel_fits_saves_and_loads(installed, tmp_path):
    run("-W", "error", "-c", SCRIPT, str(installed), cwd=tmp_path, path=installed)


def test_the_wheel_passes_tests_outside_of_the_checkout(installed, unpacked):
    (unpacked / "tests" / "test_where.py").write_text(
        "import sk_mtl\n\ndef test_where():\n"
        f"    assert sk_mtl.__file__.startswith({str(installed)!r})\n"
    )
    files = [f"tests/test_{name}.py" for name in ("where", "golden")]
    modules = [f"sk_mtl.{name}" for name in ("balancing", "tasks", "architectures.mmoe")]
    options = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs")
    shown = run(*options, *files, *modules, cwd=unpacked, path=installed)
    assert int(re.search(r"(\d+) passed", shown)[1]) > 10
