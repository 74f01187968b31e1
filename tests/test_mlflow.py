"""What guide/deployment.md says of MLflow: its own code, with a store in a folder of the test."""

import numpy as np
import pytest
from test_docs import blocks, page_names


@pytest.mark.filterwarnings("default")  # MLflow and what it stands on warn of one another
def test_a_pipeline_and_its_history_go_through_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    mlflow = pytest.importorskip("mlflow", reason="an extra; the page's section needs it")
    monkeypatch.chdir(tmp_path)
    names = page_names()
    (code,) = blocks("python mlflow", "guide/deployment.md")
    exec(compile(code, "guide/deployment.md", "exec"), names)
    pipeline, X = names["pipeline"], names["X"]
    assert np.array_equal(names["probabilities"], pipeline.predict_proba(X))
    again = mlflow.sklearn.load_model(names["info"].model_uri)
    assert np.array_equal(again.predict(X), pipeline.predict(X))

    history, client = pipeline[-1].history_, mlflow.MlflowClient()
    losses = [f"train_loss_{task}" for task in pipeline[-1].task_names_]
    for name in ("train_loss", *losses, "weight_married"):
        logged = client.get_metric_history(names["run"].info.run_id, name)
        assert [one.step for one in logged] == history["epoch"].tolist()
        assert [one.value for one in logged] == history[name].tolist()
