"""Files without pickle: what they keep, what they refuse, and how large they are."""

import json
import os
import pickle
import struct
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import everywhere, said, takes_anything
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from skorch.callbacks import Callback, EpochTimer

import sk_mtl
from sk_mtl import MMoE, ModelFileError, SharedBottom
from sk_mtl.balancing import EqualBalancer
from sk_mtl.datasets import make_census_like

pytest.importorskip("safetensors", reason="an extra that save and load need")


@pytest.fixture(scope="module")
def world():
    X, Y = make_census_like(300, random_state=0)
    X["flag"] = np.arange(300) % 3 == 0
    X["code"] = pd.Categorical(np.arange(300) % 7)
    Y["married"] = Y["married"].map({0: "no", 1: "yes"})
    Y["level"] = np.arange(300) % 3
    return X, Y


@pytest.fixture(scope="module")
def saved(world, tmp_path_factory):
    X, Y = world
    model = MMoE(n_experts=3, expert_units=(8,), max_epochs=2, random_state=0).fit(X, Y)
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    model.save(path)
    return model, path


@everywhere
def test_round_trip(cls, world, tmp_path):
    X, Y = world
    if not takes_anything(cls):
        Y = Y[["high_income"]].assign(both=Y["high_income"] * (Y["married"] == "yes"))
    given = {"tower_units": [(8,)] * Y.shape[1], **said(cls, "OPTIONS", {})}
    model = cls(max_epochs=2, random_state=0, **given).fit(X, Y)
    model.save(tmp_path / "m.safetensors")
    again = sk_mtl.load(tmp_path / "m.safetensors")
    assert type(again) is cls
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    assert np.array_equal(again.predict(X), model.predict(X))
    assert repr(again) == repr(model)
    assert again.get_params() == model.get_params()
    pd.testing.assert_frame_equal(again.history_, model.history_)
    for name in vars(model):
        assert hasattr(again, name), name
    unseen = X[:9].assign(country="nowhere")
    assert np.array_equal(again.predict_proba(unseen), model.predict_proba(unseen))
    again.partial_fit(X, Y)
    assert again.n_iter_ == 3


def test_others_may_read_the_file(saved, tmp_path):
    """A server is another user than the one that has trained."""
    usual = tmp_path / "usual"
    usual.touch()
    assert saved[1].stat().st_mode == usual.stat().st_mode


def test_single_target_array_and_float64(tmp_path):
    X = np.random.default_rng(0).normal(size=(80, 3))
    model = SharedBottom(max_epochs=2, dtype="float64", random_state=0)
    model.fit(X, np.where(X[:, 0] > 0, "up", "down"))
    model.save(tmp_path / "m")
    again = sk_mtl.load(tmp_path / "m")
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    assert list(again.classes_) == ["down", "up"]


def test_objects_of_training_are_left_out_with_a_warning(world, tmp_path):
    X, Y = world
    model = MMoE(
        n_experts=2,
        max_epochs=1,
        callbacks=[EpochTimer()],
        balancer=type("Own", (EqualBalancer,), {})(),
        optimizer=torch.optim.Adam,
        random_state=np.random.RandomState(0),
    ).fit(X, Y)
    with pytest.warns(UserWarning, match="is left out of the file") as caught:
        model.save(tmp_path / "m")
    named = {str(w.message).split("`")[1] for w in caught}
    assert named == {"callbacks", "balancer", "optimizer", "random_state"}
    again = sk_mtl.load(tmp_path / "m")
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


def test_not_fitted_and_no_file(tmp_path):
    with pytest.raises(NotFittedError):
        MMoE().save(tmp_path / "m")
    with pytest.raises(FileNotFoundError, match="no file"):
        sk_mtl.load(tmp_path / "nothing")


def test_categories_that_json_does_not_know(world, tmp_path):
    X, Y = world
    X = X.assign(when=pd.Categorical(pd.to_datetime(["2020-01-01", "2021-01-01"] * 150)))
    model = SharedBottom(max_epochs=1, random_state=0).fit(X, Y)
    with pytest.raises(TypeError, match=r"joblib\.dump"):
        model.save(tmp_path / "m")


# Damaged and foreign files ------------------------------------------------------------------


def header_of(data):
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def with_header(header, rest):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def refuse(tmp_path, data):
    path = tmp_path / "damaged"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="no intact file of sk_mtl's `save`"):
        sk_mtl.load(path)


@pytest.mark.parametrize("part", [0, 7, 8, 0.1, 0.5, 0.9, 0.999])
def test_truncated(saved, tmp_path, part):
    data = saved[1].read_bytes()
    refuse(tmp_path, data[: part if isinstance(part, int) else int(part * len(data))])


@settings(max_examples=60, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_altered_byte(saved, tmp_path_factory, position, flip):
    data = bytearray(saved[1].read_bytes())
    data[int(position * len(data))] ^= flip
    path = tmp_path_factory.getbasetemp() / "altered"
    path.write_bytes(bytes(data))
    try:
        again = sk_mtl.load(path)
    except ModelFileError:
        return
    # A blank in the header that JSON does not mind: then nothing that counts has changed.
    assert sk_mtl.persistence._describe(again) == sk_mtl.persistence._describe(saved[0])


@pytest.mark.parametrize(
    "change",
    [
        {"class": "os.system"},
        {"class": "PersistenceMixin"},
        {"format": 99},
        {"params": {"n_experts": 5}},
        {"params": {"no_such": 1}},
        {"tasks": []},
        {"encoder": {}},
        {"history": "gone"},
    ],
)
def test_altered_with_a_checksum_that_fits(saved, tmp_path, change):
    header, rest = header_of(saved[1].read_bytes())
    config = json.loads(header["__metadata__"]["sk_mtl"]) | change
    text = json.dumps(config)
    tensors = {name: tensor.cpu() for name, tensor in saved[0].module_.state_dict().items()}
    digest = sk_mtl._files.digest(text, tensors)
    header["__metadata__"] = {"sk_mtl": text, "sha256": digest}
    refuse(tmp_path, with_header(header, rest))


@pytest.mark.parametrize("kind", ["text", "pickle", "torch", "safetensors", "folder"])
def test_foreign(saved, tmp_path, kind):
    path = tmp_path / "foreign"
    if kind == "folder":
        path.mkdir()
        with pytest.raises(FileNotFoundError):
            sk_mtl.load(path)
        return
    if kind == "text":
        path.write_text("no model")
    elif kind == "pickle":
        joblib.dump(saved[0], path)
    elif kind == "torch":
        torch.save(saved[0].module_.state_dict(), path)
    else:
        from safetensors.torch import save_file

        save_file({"weight": torch.zeros(3)}, str(path))
    refuse(tmp_path, path.read_bytes())


# Pickles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["sk_mtl", "scikit-learn", "torch"])
def test_other_versions_warn(saved, tmp_path, monkeypatch, package):
    model, path = saved
    now = sk_mtl.persistence.versions()
    monkeypatch.setattr(sk_mtl.persistence, "versions", lambda: now | {package: "99.0"})
    joblib.dump(model, tmp_path / "m.joblib")
    monkeypatch.undo()
    with pytest.warns(InconsistentVersionWarning, match=f"package {package}.*99.0"):
        joblib.load(tmp_path / "m.joblib")
    monkeypatch.setattr(sk_mtl.persistence, "versions", lambda: now | {package: "99.0"})
    with pytest.warns(InconsistentVersionWarning, match=f"package {package}"):
        sk_mtl.load(path)


def test_same_versions_do_not_warn(saved, tmp_path):
    joblib.dump(saved[0], tmp_path / "m.joblib")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        joblib.load(tmp_path / "m.joblib")
        sk_mtl.load(saved[1])


@pytest.mark.parametrize("form", ["save", "joblib"])
def test_size_is_that_of_the_parameters(tmp_path, form):
    X, Y = make_census_like(300, random_state=0)
    model = MMoE(expert_units=(256, 128), max_epochs=1, random_state=0).fit(X, Y)
    path = tmp_path / "m"
    model.save(path) if form == "save" else joblib.dump(model, path)
    weights = sum(p.numel() * p.element_size() for p in model.module_.parameters())
    assert os.path.getsize(path) < 1.1 * weights


def test_trained_on_a_device_that_is_not_here(saved, tmp_path, monkeypatch):
    model = saved[0]
    joblib.dump(model, tmp_path / "m.joblib")
    asked = sk_mtl._training.devices.resolve_device

    def gone(device):
        if device == "auto":
            raise ValueError("`device` is 'cuda', which this machine does not offer.")
        return asked(device)

    monkeypatch.setattr(sk_mtl._training.devices, "resolve_device", gone)
    with pytest.warns(UserWarning, match="Using the CPU"):
        again = joblib.load(tmp_path / "m.joblib")
    X, _ = make_census_like(20, random_state=1)
    X["flag"], X["code"] = True, pd.Categorical([1] * 20)
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


def test_skops_needs_to_trust_our_own_types_only(saved):
    sio = pytest.importorskip("skops.io", reason="an extra that nothing else needs")
    data = sio.dumps(saved[0])
    trusted = sk_mtl.trusted_types()
    assert set(sio.get_untrusted_types(data=data)) <= set(trusted)
    again = sio.loads(data, trusted=trusted)
    X, _ = make_census_like(20, random_state=1)
    X["flag"], X["code"] = True, pd.Categorical([1] * 20)
    assert np.array_equal(again.predict_proba(X), saved[0].predict_proba(X))


class Connected(Callback):
    """A callback that no pickle takes, as one with a connection to somewhere."""

    def __getstate__(self):
        raise TypeError("cannot pickle a connection")


@pytest.mark.parametrize("warm_start", [False, True])
def test_a_callback_that_was_taken_out_is_not_pickled(world, warm_start):
    X, Y = world
    model = SharedBottom(
        max_epochs=1, random_state=0, callbacks=[Connected()], warm_start=warm_start
    ).fit(X, Y)
    with pytest.raises(TypeError, match="connection"):
        pickle.dumps(model)
    again = pickle.loads(pickle.dumps(model.set_params(callbacks=None)))
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.callbacks is None
    for one in (model, again):  # goes on as the original does
        one.set_params(warm_start=True).fit(X, Y)
    if warm_start:
        assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
