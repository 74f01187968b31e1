"""Golden float64 predictions: ``python -m tests.test_golden`` writes them anew.

A new architecture needs none; ``python -m tests.test_golden PLE`` adds its file.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ESTIMATORS, PLAIN, known_to

FOLDER = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def predict(name):
    cls = {cls.__name__: cls for cls in ESTIMATORS}[name]
    grid = np.linspace(-1, 1, 40)
    X = np.column_stack([grid, grid**2, np.arange(40) % 3])
    first = (grid > -0.3).astype(int)
    Y = np.column_stack([first, first * (np.arange(40) % 2)])
    options = PLAIN | {"embedding_dim": 2, "max_epochs": 5, "batch_size": 16, "lr": 0.01}
    options |= known_to(cls, {"bottom_units": (128, 64)})
    model = cls(
        tower_units=(4,), categorical_features=[2], dtype="float64", random_state=0, **options
    )
    return model.fit(X, Y).predict_proba(X[::5])


def test_every_file_belongs_to_an_estimator():
    assert NAMES
    assert set(NAMES) <= {cls.__name__ for cls in ESTIMATORS}


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_those_written_down(name):
    written = json.loads((FOLDER / f"{name}.json").read_text())
    np.testing.assert_allclose(predict(name), written, rtol=1e-8)


if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        text = json.dumps(predict(name).tolist(), indent=1)
        (FOLDER / f"{name}.json").write_text(text + "\n")
