"""The public names, and that each is documented."""

import inspect
import subprocess
import sys

import pytest

import sk_mtl
import sk_mtl.architectures
import sk_mtl.balancing
import sk_mtl.categorical
import sk_mtl.datasets
import sk_mtl.export
import sk_mtl.inspection
import sk_mtl.metrics
import sk_mtl.model_selection
import sk_mtl.nn
import sk_mtl.numeric
from sk_mtl.base import MultiTaskEstimator

MODULES = [
    sk_mtl,
    sk_mtl.architectures,
    sk_mtl.balancing,
    sk_mtl.categorical,
    sk_mtl.datasets,
    sk_mtl.export,
    sk_mtl.inspection,
    sk_mtl.model_selection,
    sk_mtl.nn,
    sk_mtl.numeric,
]
PUBLIC = [
    (module.__name__, name, getattr(module, name))
    for module in MODULES
    for name in module.__all__
    if callable(getattr(module, name))
]
ESTIMATORS = {
    cls for _, _, cls in PUBLIC if inspect.isclass(cls) and issubclass(cls, MultiTaskEstimator)
}


def test_every_architecture_is_exported_in_both_places():
    names = {cls.__name__ for cls in ESTIMATORS}
    for module in (sk_mtl, sk_mtl.architectures):
        assert names <= set(module.__all__)
    assert {"CGC", "ESMM", "PLE", "MMoE", "SharedBottom"} <= {cls.__name__ for cls in ESTIMATORS}


def test_names():
    assert set(sk_mtl.__all__) == {
        *(cls.__name__ for cls in ESTIMATORS),
        *("CheckpointError", "ModelFileError", "NonFiniteLossError", "RankError", "TaskView"),
        *("load", "__version__"),
        *("predict_frame", "predict_task_proba", "save", "search_space", "task_view"),
        *("to_onnx", "to_torch_program", "trusted_types"),
    }
    assert set(sk_mtl.datasets.__all__) == {
        *("fetch_adult", "fetch_census_income"),
        *("make_census_like", "make_click_conversion", "make_correlated_tasks"),
    }


@pytest.mark.parametrize(
    ("module", "name", "thing"), PUBLIC, ids=[f"{m}.{n}" for m, n, _ in PUBLIC]
)
def test_documented(module, name, thing):
    doc = inspect.getdoc(thing)
    assert doc
    assert "{common_" not in doc
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return
    for parameter in inspect.signature(thing).parameters.values():
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            assert parameter.name in doc, f"{module}.{name} does not document {parameter.name}"


@pytest.mark.parametrize("cls", sorted(ESTIMATORS, key=lambda cls: cls.__name__))
def test_estimators_take_keywords_only_and_document_their_methods(cls):
    kinds = {p.kind for p in inspect.signature(cls).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    for name, method in inspect.getmembers(cls, callable):
        if not name.startswith("_"):
            assert inspect.getdoc(method), name


def test_submodules_load_on_access():
    names = set(sk_mtl._SUBMODULES)
    assert {"data", "datasets", "inspection", "metrics", "model_selection", "nn"} <= names
    assert names <= set(dir(sk_mtl))
    for name in names:
        assert getattr(sk_mtl, name).__name__ == f"sk_mtl.{name}"
    with pytest.raises(AttributeError, match="has no attribute 'dataset'"):
        _ = sk_mtl.dataset
    code = """if True:
        import sys, sk_mtl
        late = {"datasets", "inspection", "metrics", "model_selection"}
        assert not late & {name.removeprefix("sk_mtl.") for name in sys.modules}
        assert sk_mtl.datasets.fetch_adult and sk_mtl.inspection.gate_weights
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_is_quiet_and_light():
    heavy = "'matplotlib', 'onnx', 'polars', 'safetensors', 'skl2onnx'"
    code = f"import sys, sk_mtl; print({{{heavy}}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "set()"
