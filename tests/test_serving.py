"""What guide/deployment.md says of a server: its own app under load; and predictions in threads."""

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from conftest import everywhere, make_table, small
from test_docs import blocks, page_names

from sk_mtl import ESMM, MMoE, predict_frame

N_CLIENTS, N_REQUESTS = 4, 50


class Server:
    """uvicorn in a process of its own, on a port that the system chose."""

    def __init__(self, folder):
        self.log, self.folder = folder / "server.log", folder

    def __enter__(self):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "app:app", "--port", "0"],
                cwd=self.folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        for _ in range(600):
            found = re.search(r"running on (http://\S+)", self.log.read_text())
            if found:
                self.url = found[1]
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.__exit__()
        raise RuntimeError(f"The server did not start: {self.log.read_text()}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=30)

    def post(self, rows):
        """Return the answer to some rows: its status, and its content."""
        request = Request(
            f"{self.url}/predict", json.dumps(rows).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)["detail"]


def test_a_server_answers_four_clients(tmp_path, monkeypatch):
    for package in ("fastapi", "uvicorn"):
        pytest.importorskip(package, reason="an extra; the page's section needs it")
    monkeypatch.chdir(tmp_path)
    names = page_names()  # it writes census.joblib, which the app loads
    (code,) = blocks("python server", "guide/deployment.md")
    (tmp_path / "app.py").write_text(code, encoding="utf-8")
    X = names["X"]
    assert X.isna().any().any()
    offline = predict_frame(names["pipeline"], X, "predict_proba")
    records = json.loads(X.to_json(orient="records"))  # null where a value is missing
    with Server(tmp_path) as server:

        def client(seed):
            rng, worst = np.random.default_rng(seed), 0.0
            for _ in range(N_REQUESTS):
                rows = rng.integers(0, len(X), rng.choice([1, 2, 40]))
                status, answer = server.post([records[row] for row in rows])
                assert status == 200, answer
                assert len(answer) == len(rows)
                assert all(list(one) == offline.columns.tolist() for one in answer)
                found = np.array([list(one.values()) for one in answer])
                worst = max(worst, np.abs(found - offline.iloc[rows].to_numpy()).max())
            return worst

        with ThreadPoolExecutor(N_CLIENTS) as pool:
            assert max(pool.map(client, range(N_CLIENTS))) < 1e-6
        answered = server.log.read_text().count('"POST /predict HTTP/1.1" 200')

        assert server.post([]) == (200, [])
        lacking = {name: value for name, value in records[0].items() if name != "age"}
        status, words = server.post([lacking])
        assert status == 422
        assert "age" in words
        status, words = server.post([records[0] | {"age": "old"}])
        assert status == 422
        assert "age" in words
        nothing_known = dict.fromkeys(X.columns)
        assert server.post([nothing_known])[0] == 200
    assert answered == N_CLIENTS * N_REQUESTS


@everywhere
def test_predictions_of_one_estimator_in_several_threads(cls):
    table = make_table()
    X = table.X
    model = small(cls).fit(X, table.targets(cls))
    cuts = [slice(k, k + n) for n in (1, 7, 40) for k in range(0, 80, 3)]
    methods = ["predict", "predict_proba"]
    work = [(method, cut) for cut in cuts for method in methods]

    def predict(task):
        method, cut = task
        return getattr(model, method)(X[cut])

    in_a_row = [predict(task) for task in work]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(predict, work))
    for one, other in zip(in_a_row, at_once, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("make", "method"),
    [(lambda: small(MMoE, n_members=3), "predict_proba"),
     (lambda: small(ESMM), "predict_conversion_rate")],
    ids=["members", "conversion rate"],
)  # fmt: skip
def test_other_predictions_in_several_threads(make, method):
    X, _, chain = make_table()
    model = make().fit(X, chain)
    expected = getattr(model, method)(X)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: getattr(model, method)(X), range(40)):
            assert np.array_equal(found, expected)
