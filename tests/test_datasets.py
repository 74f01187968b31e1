"""Tests of the data sets: loaders on the real files and on a local server, and generators."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import need
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import r2_score, roc_auc_score

from sk_mtl.datasets import (
    _files,
    _sources,
    _verify,
    fetch_adult,
    fetch_census_income,
    make_census_like,
    make_click_conversion,
    make_correlated_tasks,
)

CENSUS_COLUMNS = [
    "age",
    "class_worker",
    "det_ind_code",
    "det_occ_code",
    "education",
    "wage_per_hour",
    "hs_college",
    "marital_stat",
    "major_ind_code",
    "major_occ_code",
    "race",
    "hisp_origin",
    "sex",
    "union_member",
    "unemp_reason",
    "full_or_part_emp",
    "capital_gains",
    "capital_losses",
    "stock_dividends",
    "tax_filer_stat",
    "region_prev_res",
    "state_prev_res",
    "det_hh_fam_stat",
    "det_hh_summ",
    "instance_weight",
    "mig_chg_msa",
    "mig_chg_reg",
    "mig_move_reg",
    "mig_same",
    "mig_prev_sunbelt",
    "num_emp",
    "fam_under_18",
    "country_father",
    "country_mother",
    "country_self",
    "citizenship",
    "own_or_self",
    "vet_question",
    "vet_benefits",
    "weeks_worked",
    "year",
    "income_50k",
]
CENSUS_NUMBERS = [
    "age",
    "wage_per_hour",
    "capital_gains",
    "capital_losses",
    "stock_dividends",
    "instance_weight",
    "num_emp",
    "own_or_self",
    "vet_benefits",
    "weeks_worked",
    "year",
]
ADULT_NUMBERS = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]

ADULT_ROWS = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, "
    "Male, 2174, 0, 40, United-States, <=50K",
    "52, ?, 209642, HS-grad, 9, Married-civ-spouse, ?, Husband, White, "
    "Male, 0, 0, 45, United-States, >50K",
)
CENSUS_ROW = (
    "38, Private, 6, 36, {education}, 0, Not in universe, {marital}, Manufacturing, Operators , "
    "White, NA, Female, Not in universe, Not in universe, Full-time schedules, 0, 0, 0, Single, "
    "Not in universe, ?, Householder, Householder, 1032.38, ?, ?, ?, Not in universe, ?, 4, "
    "Not in universe, Mexico, ?, Mexico, Foreign born- Not a citizen of U S , 0, "
    "Not in universe, 2, 12, 95, {income}"
)


# ---------------------------------------------------------------------------- helpers


@functools.cache
def _adult(subset):
    need("adult-train")
    return fetch_adult(subset=subset, data_home=need("adult-test"), download_if_missing=False)


@functools.cache
def _census(tasks):
    home = need("census-test")
    return fetch_census_income(
        subset="test", tasks=tasks, data_home=home, download_if_missing=False
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _adult_files() -> dict[str, bytes]:
    train = "\n".join(ADULT_ROWS) + "\n\n"
    test = "|1x3 Cross validator\n" + "".join(f"{row}.\n" for row in ADULT_ROWS)
    test = test.replace("State-gov", "Never-worked")
    return {"adult-train": train.encode(), "adult-test": test.encode()}


def _census_files() -> dict[str, bytes]:
    rows = [
        CENSUS_ROW.format(education="Children", marital="Never married", income="- 50000."),
        CENSUS_ROW.format(
            education="Bachelors degree(BA AB BS)", marital="Divorced", income="50000+."
        ),
        CENSUS_ROW.format(
            education="Associates degree-academic program", marital="Widowed", income="- 50000."
        ),
    ]
    data = "".join(f" {row}\n" for row in rows).encode()
    return {"census-train": gzip.compress(data), "census-test": gzip.compress(data)}


@pytest.fixture(autouse=True)
def _isolate(monkeypatch, tmp_path):
    """Keep every test off the user's folders, the environment and long waits."""
    monkeypatch.delenv("SK_MTL_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "scikit_learn_data"))
    monkeypatch.setattr(_files, "DELAY", 0.0)
    monkeypatch.setattr(_files, "TIMEOUT", 5.0)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append(self.path)
        body = server.bodies.get(self.path)
        if server.failures > 0:
            server.failures -= 1
            self.send_error(503)
        elif body is None:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) - server.cut])

    def log_message(self, *args):
        """Keep the test output clean."""


@pytest.fixture
def server():
    """Run a server on this machine that knows small copies of all files."""
    instance = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    instance.bodies, instance.requests, instance.failures, instance.cut = {}, [], 0, 0
    thread = threading.Thread(target=instance.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield instance
    instance.shutdown()
    instance.server_close()
    thread.join()


@pytest.fixture
def small(monkeypatch, server):
    """Replace the published files by small ones the local server hands out."""
    files = {**_adult_files(), **_census_files()}
    for key, data in files.items():
        source = _sources.SOURCES[key]
        changes = {"url": f"http://127.0.0.1:{server.server_port}/{source.name}"}
        if source.sha256:
            changes["sha256"] = (_sha256(data),)
        else:
            changes["n_rows"] = 3
            changes["totals"] = {(41, "50000+"): 1, (7, "Never married"): 1}
        monkeypatch.setitem(_sources.SOURCES, key, dataclasses.replace(source, **changes))
        server.bodies[f"/{source.name}"] = data
    return files


def _put(folder: Path, key: str, data: bytes, *, flat: bool = False) -> Path:
    source = _sources.SOURCES[key]
    path = folder / source.name if flat else folder / source.folder / source.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------------------- Adult, real files


@pytest.mark.parametrize(
    ("subset", "n_rows", "n_income", "n_never"),
    [("train", 32_561, 7_841, 10_683), ("test", 16_281, 3_846, 5_434)],
)
def test_adult_rows_and_labels(subset, n_rows, n_income, n_never):
    bunch = _adult(subset)
    assert bunch.data.shape == (n_rows, 13)
    assert bunch.target.shape == (n_rows, 2)
    assert bunch.target.sum().to_dict() == {"income": n_income, "never_married": n_never}
    assert (bunch.target.dtypes == "int64").all()
    assert bunch.target.isin([0, 1]).all(axis=None)


def test_adult_all_is_train_then_test_with_one_category_set():
    train, test, both = _adult("train"), _adult("test"), _adult("all")
    assert len(both.data) == 48_842
    assert isinstance(both.data.index, pd.RangeIndex)
    assert len(both.filenames) == 2
    for name in both.feature_names:
        assert both.data[name].iloc[0] == train.data[name].iloc[0]
        assert both.data[name].iloc[32_561] == test.data[name].iloc[0]
    pd.testing.assert_frame_equal(both.target.iloc[:32_561], train.target)
    # One country occurs in the train file only.
    assert set(both.data["native_country"].cat.categories) == set(
        train.data["native_country"].cat.categories
    )
    assert len(test.data["native_country"].cat.categories) == 40
    assert len(both.data["native_country"].cat.categories) == 41


def test_adult_dtypes_and_missing_values():
    X = _adult("all").data
    numeric = [name for name in X.columns if pd.api.types.is_numeric_dtype(X[name])]
    assert numeric == ADULT_NUMBERS
    assert (X[numeric].dtypes == "int64").all()
    assert _adult("all").categorical_features == [n for n in X.columns if n not in numeric]
    assert all(isinstance(X[n].dtype, pd.CategoricalDtype) for n in X if n not in numeric)
    gaps = X.isna().sum()
    expected = {"workclass": 2_799, "occupation": 2_809, "native_country": 857}
    assert gaps[gaps > 0].to_dict() == expected


def test_adult_has_no_label_in_the_inputs():
    bunch = _adult("train")
    assert not {"income", "marital_status", "never_married"} & set(bunch.data.columns)
    for name in bunch.categorical_features:
        values = bunch.data[name].cat.categories
        assert not {"<=50K", ">50K", "Never-married", "Divorced"} & set(values)


def test_adult_test_file_with_and_without_its_first_line(tmp_path):
    # The published file starts with a comment, the local one may not; both are accepted.
    home = need("adult-test")
    path = next(p for p in (home / "adult" / "adult.test", home / "adult.test") if p.is_file())
    comment = b"|1x3 Cross validator\n"
    bare = path.read_bytes().removeprefix(comment)
    digests = (_sha256(comment + bare), _sha256(bare))
    assert digests == _sources.SOURCES["adult-test"].sha256
    for folder, data in (("with", comment + bare), ("without", bare)):
        _put(tmp_path / folder, "adult-test", data)
        bunch = fetch_adult(subset="test", data_home=tmp_path / folder)
        pd.testing.assert_frame_equal(bunch.frame, _adult("test").frame)


def test_adult_columns_as_targets():
    home = need("adult-test")
    X, Y = fetch_adult(
        subset="test", tasks=["income", "hours_per_week"], data_home=home, return_X_y=True
    )
    assert list(Y.columns) == ["income", "hours_per_week"]
    assert list(Y["income"].cat.categories) == ["<=50K", ">50K"]  # without the full stop
    assert Y["hours_per_week"].dtype == "int64"
    assert "marital_status" in X
    assert not {"income", "hours_per_week"} & set(X.columns)


# ---------------------------------------------------------------------------- Census, real file


def test_census_rows_and_labels():
    bunch = _census("income-marital")
    assert bunch.data.shape == (99_762, 40)
    assert bunch.target.sum().to_dict() == {"income": 6_186, "never_married": 43_143}
    assert (bunch.target.dtypes == "int64").all()
    expected = [c for c in CENSUS_COLUMNS if c not in ("income_50k", "marital_stat")]
    assert bunch.feature_names == expected


def test_census_train_totals_are_the_published_ones_less_the_test_file():
    totals = _sources.SOURCES["census-train"].totals
    test = _census("income-marital").target.sum()
    assert totals[41, "50000+"] == 18_568 - test["income"]
    assert totals[7, "Never married"] == 129_628 - test["never_married"]


def test_census_group_two():
    bunch = _census("education-marital")
    assert bunch.target_names == ["college", "never_married"]
    assert "income_50k" in bunch.categorical_features
    assert not {"education", "marital_stat"} & set(bunch.data.columns)
    assert list(bunch.data["income_50k"].cat.categories) == ["- 50000", "50000+"]
    _, Y = fetch_census_income(
        subset="test", tasks=["education"], data_home=need("census-test"), return_X_y=True
    )
    counted = set(Y["education"][bunch.target["college"] == 1])
    assert counted == {
        "Some college but no degree",
        "Bachelors degree(BA AB BS)",
        "Masters degree(MA MS MEng MEd MSW MBA)",
        "Prof school degree (MD DDS DVM LLB JD)",
        "Doctorate degree(PhD EdD)",
    }
    assert bunch.target["college"].sum() == Y["education"].isin(counted).sum()


def test_census_correlations_of_the_task_groups():
    for group, expected in (("income-marital", 0.1768), ("education-marital", 0.2373)):
        found = abs(_census(group).target.corr().iloc[0, 1])
        assert found == pytest.approx(expected, abs=0.005)  # the MMoE paper, both files


def test_census_dtypes_spellings_and_missing_values():
    X = _census("income-marital").data
    numeric = [name for name in X.columns if pd.api.types.is_numeric_dtype(X[name])]
    assert numeric == CENSUS_NUMBERS
    assert X["instance_weight"].dtype == "float64"
    categorical = [name for name in X.columns if name not in numeric]
    assert _census("income-marital").categorical_features == categorical
    for name in categorical:
        values = list(X[name].cat.categories)
        assert all(isinstance(value, str) and value == value.strip() for value in values)
        assert "?" not in values
    assert "33" in X["det_ind_code"].cat.categories
    assert "NA" in X["hisp_origin"].cat.categories
    assert X["mig_chg_msa"].isna().sum() == 49_946
    assert (X.loc[X["mig_chg_msa"].isna(), "year"] == 95).all()
    assert X["state_prev_res"].isna().sum() == 330


@pytest.mark.parametrize("load", [lambda: _adult("train"), lambda: _census("income-marital")])
def test_bunch_fields_agree(load):
    bunch = load()
    assert list(bunch.frame.columns) == bunch.feature_names + bunch.target_names
    assert bunch.feature_names == list(bunch.data.columns)
    assert bunch.target_names == list(bunch.target.columns)
    assert set(bunch.categorical_features) <= set(bunch.feature_names)
    assert all(Path(name).is_file() for name in bunch.filenames)
    assert "UCI" in bunch.DESCR


# ---------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("fetch", [fetch_adult, fetch_census_income])
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"subset": "validation"}, r"`subset` must be one of \['train', 'test', 'all'\], got 'val"),
        ({"tasks": "nonsense"}, r"`tasks` must be one of \['income-marital'.*, got 'nonsense'\."),
        ({"tasks": "education"}, r"got 'education'; for that column pass \['education'\]"),
        ({"tasks": ["age", "nonsense"]}, r"`tasks` names the columns \['nonsense'\], which"),
        ({"tasks": []}, "at least one column"),
        ({"tasks": ["age", "age"]}, "each once"),
    ],
)
def test_wrong_parameters_are_named(fetch, parameters, message, tmp_path):
    # Before any file is looked for: there is none.
    with pytest.raises(ValueError, match=message):
        fetch(data_home=tmp_path, download_if_missing=False, **parameters)


def test_all_columns_as_targets_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="leave at least one"):
        fetch_census_income(tasks=CENSUS_COLUMNS, data_home=tmp_path)


def test_group_two_is_no_task_of_adult(tmp_path):
    with pytest.raises(ValueError, match=r"`tasks` must be one of \['income-marital'\] or a list"):
        fetch_adult(tasks="education-marital", data_home=tmp_path)


# ---------------------------------------------------------------------------- files and cache


@pytest.mark.parametrize("flat", [False, True])
def test_both_folder_layouts(small, server, tmp_path, flat):
    path = _put(tmp_path, "adult-train", small["adult-train"], flat=flat)
    bunch = fetch_adult(data_home=tmp_path)
    assert bunch.filenames == [str(path)]
    assert bunch.target.to_numpy().tolist() == [[0, 1], [1, 0]]
    assert server.requests == []


def test_data_home_as_text_with_a_tilde(small, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    _put(tmp_path / "cache", "adult-train", small["adult-train"])
    assert len(fetch_adult(data_home="~/cache", download_if_missing=False).data) == 2


def test_small_files_are_read_like_the_real_ones(small, tmp_path):
    X, Y = fetch_adult(subset="all", data_home=tmp_path, return_X_y=True)
    assert Y["income"].tolist() == [0, 1, 0, 1]
    assert list(X["workclass"].cat.categories) == ["Never-worked", "State-gov"]
    assert X["workclass"].isna().tolist() == [False, True, False, True]
    X, Y = fetch_census_income(tasks="education-marital", data_home=tmp_path, return_X_y=True)
    assert Y.to_numpy().tolist() == [[0, 1], [1, 0], [0, 0]]
    assert X["income_50k"].tolist() == ["- 50000", "50000+", "- 50000"]
    assert X["hisp_origin"].tolist() == ["NA"] * 3
    assert X["major_occ_code"].tolist() == ["Operators"] * 3
    assert X["det_ind_code"].tolist() == ["6"] * 3
    assert X["mig_chg_msa"].isna().all()
    both = fetch_census_income(subset="all", data_home=tmp_path)
    assert both.target["income"].tolist() == [0, 1, 0, 0, 1, 0]


def test_order_of_the_folders(small, server, tmp_path, monkeypatch):
    default = Path(os.environ["SCIKIT_LEARN_DATA"]) / "sk_mtl"
    in_default = _put(default, "adult-train", small["adult-train"])
    assert fetch_adult().filenames == [str(in_default)]
    named = _put(tmp_path / "named", "adult-train", small["adult-train"])
    monkeypatch.setenv("SK_MTL_DATA", str(tmp_path / "named"))
    assert fetch_adult().filenames == [str(named)]
    home = _put(tmp_path / "home", "adult-train", small["adult-train"])
    assert fetch_adult(data_home=tmp_path / "home").filenames == [str(home)]
    # An empty data_home falls back on SK_MTL_DATA rather than on a download.
    assert fetch_adult(data_home=tmp_path / "empty").filenames == [str(named)]
    assert server.requests == []


def test_local_folder_needs_no_cache(small, tmp_path, monkeypatch):
    _put(tmp_path / "named", "adult-train", small["adult-train"])
    monkeypatch.setenv("SK_MTL_DATA", str(tmp_path / "named"))
    fetch_adult()
    assert not Path(os.environ["SCIKIT_LEARN_DATA"]).exists()


def test_missing_file_without_download(small, server, tmp_path, monkeypatch):
    monkeypatch.setenv("SK_MTL_DATA", str(tmp_path / "named"))
    with pytest.raises(OSError, match="`download_if_missing` is False") as caught:
        fetch_adult(data_home=tmp_path / "home", download_if_missing=False)
    text = str(caught.value)
    assert "adult.data" in text
    assert str(tmp_path / "home") in text
    assert str(tmp_path / "named") in text
    assert "SK_MTL_DATA" in text
    assert "data_home" in text
    assert server.requests == []
    assert not (tmp_path / "home").exists()


def test_download_into_data_home_and_cache_hit(small, server, tmp_path):
    first = fetch_adult(data_home=tmp_path)
    assert server.requests == ["/adult.data"]
    assert _files_below(tmp_path) == ["adult/adult.data"]
    second = fetch_adult(data_home=tmp_path)
    assert server.requests == ["/adult.data"]
    pd.testing.assert_frame_equal(first.frame, second.frame)
    mode = (tmp_path / "adult" / "adult.data").stat().st_mode
    (tmp_path / "plain").write_text("")
    assert mode == (tmp_path / "plain").stat().st_mode


def test_download_never_goes_into_the_named_folder(small, server, tmp_path, monkeypatch):
    named = tmp_path / "named"
    named.mkdir()
    monkeypatch.setenv("SK_MTL_DATA", str(named))
    bunch = fetch_adult()
    default = Path(os.environ["SCIKIT_LEARN_DATA"]) / "sk_mtl"
    assert bunch.filenames == [str(default / "adult" / "adult.data")]
    assert _files_below(named) == []


def test_download_from_a_file_address(small, tmp_path, monkeypatch):
    origin = tmp_path / "origin.data"
    origin.write_bytes(small["adult-train"])
    source = dataclasses.replace(_sources.SOURCES["adult-train"], url=origin.as_uri())
    monkeypatch.setitem(_sources.SOURCES, "adult-train", source)
    assert len(fetch_adult(data_home=tmp_path / "home").data) == 2


def test_download_tries_again(small, server, tmp_path):
    server.failures = 2
    assert len(fetch_adult(data_home=tmp_path).data) == 2
    assert len(server.requests) == 3


def test_download_gives_up(small, server, tmp_path):
    server.failures = 99
    with pytest.raises(OSError, match=r"attempts: 3, last error: .*503"):
        fetch_adult(data_home=tmp_path)
    assert len(server.requests) == 3
    assert _files_below(tmp_path) == []


def test_not_found_is_final(small, server, tmp_path):
    server.bodies.clear()
    with pytest.raises(OSError, match=r"attempts: 1, last error: .*404"):
        fetch_adult(data_home=tmp_path)
    assert len(server.requests) == 1


def test_connection_that_breaks_off(small, server, tmp_path):
    server.cut = 10
    with pytest.raises(OSError, match="attempts: 3"):
        fetch_adult(data_home=tmp_path)
    assert _files_below(tmp_path) == []


def test_offline(small, tmp_path, monkeypatch):
    def no_network(url, timeout):
        raise _files.HTTPException("no network")

    monkeypatch.setattr(_files, "urlopen", no_network)
    with pytest.raises(OSError, match="no network") as caught:
        fetch_census_income(data_home=tmp_path)
    text = str(caught.value)
    assert "census-income.data.gz" in text
    assert _sources.SOURCES["census-train"].url in text
    assert "pass that folder as `data_home`" in text
    assert "SK_MTL_DATA" in text
    assert isinstance(caught.value.__cause__, _files.HTTPException)


def test_damaged_download_is_not_kept(small, server, tmp_path):
    server.bodies["/adult.data"] = small["adult-train"].replace(b"39", b"93")
    with pytest.raises(OSError, match="Nothing was kept") as caught:
        fetch_adult(data_home=tmp_path)
    assert _sources.SOURCES["adult-train"].sha256[0] in str(caught.value)
    assert len(server.requests) == 1
    assert _files_below(tmp_path) == []


def test_damaged_copy(small, server, tmp_path):
    data = small["adult-train"].replace(b"39", b"93")
    path = _put(tmp_path, "adult-train", data)
    with pytest.raises(OSError, match="delete it") as caught:
        fetch_adult(data_home=tmp_path)
    text = str(caught.value)
    assert str(path) in text
    assert _sources.SOURCES["adult-train"].sha256[0] in text
    assert _sha256(data) in text
    assert path.read_bytes() == data
    assert server.requests == []


def test_published_digests_are_checked(tmp_path):
    _put(tmp_path, "census-test", gzip.compress(b"nonsense"))
    with pytest.raises(OSError, match="5ac4cacd3ca9f1ec"):
        fetch_census_income(subset="test", data_home=tmp_path)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda text: text + text.splitlines(keepends=True)[0], "4 rows of 42 columns"),
        (lambda text: text.replace(b", 95,", b", 95, 1,"), "3 rows of 43 columns"),
        (lambda text: text.replace(b"50000+.", b"- 50000."), "0 rows with '50000\\+'"),
        (lambda text: text.replace(b"Divorced", b"Never married"), "2 rows with 'Never married'"),
    ],
)
def test_file_without_a_digest_is_checked_by_its_contents(small, tmp_path, change, found):
    data = gzip.compress(change(gzip.decompress(small["census-train"])))
    _put(tmp_path, "census-train", data)
    with pytest.raises(OSError, match=found):
        fetch_census_income(data_home=tmp_path)


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: b"<html>" + data])
def test_file_without_a_digest_that_cannot_be_unpacked(small, tmp_path, damage):
    _put(tmp_path, "census-train", damage(small["census-train"]))
    with pytest.raises(OSError, match=r"found (EOFError|BadGzipFile)"):
        fetch_census_income(data_home=tmp_path)


def test_contents_check_on_the_real_test_file():
    path = need("census-test") / "census_income" / "census-income.test.gz"
    if not path.is_file():
        pytest.skip("the local data folder is flat")
    source = dataclasses.replace(
        _sources.SOURCES["census-train"],
        n_rows=99_762,
        totals={(41, "50000+"): 6_186, (7, "Never married"): 43_143},
    )
    assert _verify.difference(path, source) is None


# ---------------------------------------------------------------------------- generators, common

GENERATORS = {
    "correlated": lambda seed: make_correlated_tasks(50, 5, random_state=seed),
    "click": lambda seed: [
        (bunch := make_click_conversion(50, random_state=seed)).frame,
        bunch.propensity,
        bunch.conversion_rate,
        bunch.latent_conversion,
    ],
    "census": lambda seed: make_census_like(50, random_state=seed),
}


def _same(first, second) -> bool:
    return all(
        a.equals(b) if isinstance(a, pd.DataFrame) else np.array_equal(a, b)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("generate", GENERATORS.values(), ids=GENERATORS)
def test_random_state(generate):
    assert _same(generate(3), generate(3))
    assert _same(generate(3), generate(np.int64(3)))
    assert not _same(generate(3), generate(4))
    assert not _same(generate(None), generate(None))
    for kind in (np.random.RandomState, np.random.default_rng):
        assert _same(generate(kind(3)), generate(kind(3)))
        state = kind(3)
        assert not _same(generate(state), generate(state))
    with pytest.raises(TypeError, match=r"`random_state` must be .*, got 'three'"):
        generate("three")
    with pytest.raises(ValueError, match="non-negative"):
        generate(-1)


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("generate", GENERATORS.values(), ids=GENERATORS)
def test_global_random_state_is_untouched(generate, seed):
    before = np.random.get_state()  # noqa: NPY002
    generate(seed)
    after = np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0]
    assert np.array_equal(before[1], after[1])
    assert before[2:] == after[2:]


@pytest.mark.parametrize("make", [make_correlated_tasks, make_click_conversion, make_census_like])
def test_number_of_rows_is_checked(make):
    with pytest.raises(ValueError, match="`n_samples` must be a whole number of at least 1, got 0"):
        make(0)
    for value in (2.5, "10", True):
        match = f"`n_samples` must be a whole number of at least 1, got {value!r}"
        for kind in (TypeError, ValueError):
            with pytest.raises(kind, match=match):
                make(value)
    make(1, random_state=0)


# ---------------------------------------------------------------------------- correlated tasks


def test_correlated_shapes():
    X, Y = make_correlated_tasks(random_state=0)
    assert X.shape == (1000, 100)
    assert Y.shape == (1000, 2)
    assert X.dtype == Y.dtype == np.float64
    X, Y, coef = make_correlated_tasks(7, 3, return_coef=True, random_state=0)
    assert coef.shape == (3, 2)
    assert np.array_equal(X, make_correlated_tasks(7, 3, random_state=0)[0])


@pytest.mark.parametrize("p", [-1.0, -0.3, 0, 0.5, 1])
@pytest.mark.parametrize("n_features", [2, 30])
def test_correlated_weights_have_the_cosine(p, n_features):
    *_, coef = make_correlated_tasks(
        5, n_features, task_correlation=p, scale=2.5, return_coef=True, random_state=1
    )
    np.testing.assert_allclose(np.linalg.norm(coef, axis=0), 2.5)
    assert coef[:, 0] @ coef[:, 1] / 2.5**2 == pytest.approx(p, abs=1e-12)


def test_correlated_formula():
    alphas, betas = [0.5, 2.0], [0.1, -1.0]
    X, Y, coef = make_correlated_tasks(
        200, 4, noise=0, alphas=alphas, betas=betas, return_coef=True, random_state=2
    )
    z = X @ coef
    expected = z + np.sin(0.5 * z + 0.1) + np.sin(2.0 * z - 1.0)
    np.testing.assert_allclose(Y, expected, atol=1e-12)


def test_correlated_noise_is_a_standard_deviation():
    X, Y, coef = make_correlated_tasks(
        20_000, 3, n_sines=0, noise=0.1, return_coef=True, random_state=0
    )
    np.testing.assert_allclose((Y - X @ coef).var(axis=0), 0.01, rtol=0.05)


def test_correlated_labels():
    def correlation(p, **other):
        _, Y = make_correlated_tasks(20_000, 10, task_correlation=p, random_state=0, **other)
        return np.corrcoef(Y.T)[0, 1]

    # Without sines and noise the Pearson correlation is p; with them it grows with p.
    for p in (0.0, 0.4, 0.8):
        assert correlation(p, n_sines=0, noise=0) == pytest.approx(p, abs=0.03)
    assert (np.diff([correlation(p) for p in (-1, -0.5, 0, 0.5, 1)]) > 0.1).all()
    assert correlation(1.0) > 0.98


def test_correlated_identical_tasks():
    _, Y = make_correlated_tasks(100, 5, task_correlation=1, noise=0, random_state=0)
    np.testing.assert_allclose(Y[:, 0], Y[:, 1], atol=1e-12)


def test_correlated_given_sines():
    # One array fixes the number of sines for the other, whatever n_sines says.
    make_correlated_tasks(5, 3, alphas=[1.0, 2.0], n_sines=7, random_state=0)
    with pytest.raises(ValueError, match="must have the same length, got 2 and 1"):
        make_correlated_tasks(5, 3, alphas=[1.0, 2.0], betas=[1.0])
    with pytest.raises(ValueError, match=r"`betas` must be a one-dimensional .*, got array\(\[\[1"):
        make_correlated_tasks(5, 3, betas=[[1.0]])
    with pytest.raises(ValueError, match="`alphas` must be a one-dimensional"):
        make_correlated_tasks(5, 3, alphas=[np.nan])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"task_correlation": 1.01},
            "`task_correlation` must be .* at least -1 and at most 1, got 1.01",
        ),
        ({"task_correlation": -2}, "task_correlation"),
        ({"task_correlation": float("nan")}, "task_correlation"),
        ({"n_features": 1}, "`n_features` must be a whole number of at least 2, got 1"),
        ({"n_sines": -1}, "n_sines"),
        ({"scale": 0.0}, "`scale` must be a finite number above 0, got 0.0"),
        ({"scale": float("inf")}, "scale"),
        ({"noise": -0.1}, "noise"),
    ],
)
def test_correlated_errors(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_correlated_tasks(**parameters)
    with pytest.raises(TypeError, match="`task_correlation` must be a finite number"):
        make_correlated_tasks(task_correlation="high")


# ---------------------------------------------------------------------------- click, conversion


def test_click_conversion_fields():
    bunch = make_click_conversion(300, 5, random_state=0)
    numeric = [f"num_{j}" for j in range(5)]
    assert bunch.feature_names == [*numeric, "user_segment", "device", "item_category"]
    assert list(bunch.data.columns) == bunch.feature_names
    assert bunch.categorical_features == ["user_segment", "device", "item_category"]
    assert (bunch.data[numeric].dtypes == "float64").all()
    sizes = [len(bunch.data[name].cat.categories) for name in bunch.categorical_features]
    assert sizes == [6, 4, 20]
    assert bunch.target_names == ["click", "conversion"] == list(bunch.target.columns)
    assert (bunch.target.dtypes == "int64").all()
    assert list(bunch.frame.columns) == bunch.feature_names + bunch.target_names
    for name in ("propensity", "conversion_rate"):
        assert bunch[name].shape == (300,)
        assert ((bunch[name] > 0) & (bunch[name] < 1)).all()


def test_conversion_implies_click():
    bunch = make_click_conversion(random_state=0)
    click, conversion = bunch.target["click"], bunch.target["conversion"]
    assert (conversion <= click).all()
    assert 0 < conversion.sum() < click.sum()
    assert np.array_equal(conversion, click * bunch.latent_conversion)


@pytest.mark.parametrize(("click_rate", "conversion_rate"), [(0.2, 0.1), (0.03, 0.01), (0.9, 0.5)])
def test_click_conversion_rates(click_rate, conversion_rate):
    bunch = make_click_conversion(
        50_000, click_rate=click_rate, conversion_rate=conversion_rate, random_state=1
    )
    assert bunch.propensity.mean() == pytest.approx(click_rate, rel=1e-6)
    assert bunch.conversion_rate.mean() == pytest.approx(conversion_rate, rel=1e-6)
    assert bunch.target["click"].mean() == pytest.approx(click_rate, rel=0.1)
    assert bunch.latent_conversion.mean() == pytest.approx(conversion_rate, rel=0.15)


def test_labels_follow_the_true_rates():
    bunch = make_click_conversion(50_000, random_state=2)
    clicked = bunch.target["click"].to_numpy() == 1
    for truth, label in (
        (bunch.propensity, clicked),
        (bunch.conversion_rate, bunch.latent_conversion),
        (bunch.conversion_rate[clicked], bunch.target["conversion"][clicked].to_numpy()),
    ):
        decile = np.digitize(truth, np.quantile(truth, np.arange(0.1, 1.0, 0.1)))
        mean_truth = np.bincount(decile, truth) / np.bincount(decile)
        mean_label = np.bincount(decile, label) / np.bincount(decile)
        np.testing.assert_allclose(mean_label, mean_truth, atol=0.035)


@pytest.mark.parametrize("seed", range(5))
def test_selection_bias(seed):
    def ratio(confounding):
        bunch = make_click_conversion(20_000, confounding=confounding, random_state=seed)
        clicked = bunch.target["click"].to_numpy() == 1
        return bunch.conversion_rate[clicked].mean() / bunch.conversion_rate.mean()

    assert ratio(0.6) > 1.5
    assert ratio(0.3) > 1.15
    assert ratio(0.0) == pytest.approx(1.0, abs=0.1)
    assert ratio(-0.6) < 0.8


def test_confounding_is_the_correlation_of_the_scores():
    def logit(rate):
        return np.log(rate / (1 - rate))

    for confounding in (-1, -0.4, 0.0, 0.5, 1):
        bunch = make_click_conversion(50_000, 9, confounding=confounding, random_state=0)
        scores = logit(bunch.propensity), logit(bunch.conversion_rate)
        assert np.corrcoef(scores)[0, 1] == pytest.approx(confounding, abs=0.04)
        np.testing.assert_allclose(np.std(scores, axis=1), 1.5, rtol=0.05)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"click_rate": 0.0}, "`click_rate` must be .* above 0 and below 1, got 0.0"),
        ({"conversion_rate": 1.0}, "conversion_rate"),
        ({"confounding": 1.5}, "confounding"),
        ({"n_features": 2}, "`n_features` must be a whole number of at least 3, got 2"),
    ],
)
def test_click_conversion_errors(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_click_conversion(**parameters)


# ---------------------------------------------------------------------------- census-like


def test_census_like_columns():
    X, Y = make_census_like(20_000, random_state=0)
    sizes = {"sex": 2, "housing": 3, "workclass": 6, "region": 10, "occupation": 15, "country": 40}
    categorical = [n for n in X.columns if isinstance(X[n].dtype, pd.CategoricalDtype)]
    assert {n: len(X[n].cat.categories) for n in categorical} == sizes
    assert X[categorical].nunique().to_dict() == sizes
    numeric = [n for n in X.columns if n not in categorical]
    assert len(numeric) == 6
    assert all(pd.api.types.is_numeric_dtype(X[n]) for n in numeric)
    assert (X["capital_gain"] == 0).mean() > 0.8
    assert X["age"].between(17, 80).all()
    assert Y.dtypes.astype(str).to_dict() == {
        "high_income": "int64",
        "married": "int64",
        "log_wage": "float64",
    }
    assert not Y.isna().any(axis=None)
    assert 0.2 < Y["high_income"].mean() < 0.4
    assert 0.4 < Y["married"].mean() < 0.7
    assert 0.1 < Y["high_income"].corr(Y["married"]) < 0.4


def test_census_like_dtypes_do_not_depend_on_the_draw():
    expected = make_census_like(1000, random_state=0)[0].dtypes
    for n_samples, missing in ((1, 0.0), (3, 0.9), (50, 0.02)):
        found = make_census_like(n_samples, missing=missing, random_state=1)[0].dtypes
        pd.testing.assert_series_equal(found, expected)


def test_census_like_gaps():
    full, Y_full = make_census_like(5000, missing=0.0, random_state=0)
    gaps, Y_gaps = make_census_like(5000, missing=0.1, random_state=0)
    assert not full.isna().any(axis=None)
    share = gaps.isna().mean()
    expected = ["capital_gain", "country", "hours_per_week", "occupation"]
    assert sorted(share[share > 0].index) == expected
    np.testing.assert_allclose(share[expected], 0.1, atol=0.02)
    pd.testing.assert_frame_equal(Y_full, Y_gaps)
    pd.testing.assert_frame_equal(full.mask(gaps.isna()), gaps)


def test_census_like_is_learnable_across_draws():
    # The population does not change with the random state.
    X, Y = make_census_like(12_000, random_state=0)
    X_test, Y_test = make_census_like(5000, random_state=1)
    for name in ("high_income", "married"):
        model = HistGradientBoostingClassifier(max_iter=60, categorical_features="from_dtype")
        score = model.fit(X, Y[name]).predict_proba(X_test)[:, 1]
        assert 0.85 < roc_auc_score(Y_test[name], score) < 0.93
    regressor = HistGradientBoostingRegressor(max_iter=60, categorical_features="from_dtype")
    r2 = r2_score(Y_test["log_wage"], regressor.fit(X, Y["log_wage"]).predict(X_test))
    assert 0.6 < r2 < 0.8


@pytest.mark.parametrize("missing", [-0.1, 1.0, 1.5, float("nan")])
def test_census_like_errors(missing):
    with pytest.raises(ValueError, match="missing"):
        make_census_like(10, missing=missing)
