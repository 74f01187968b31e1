"""Golden float64 predictions: ``python -m tests.test_golden`` writes them anew."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import PLAIN, known_to

from sk_mtl import CGC, ESMM, PLE, MMoE, SharedBottom

FOLDER = Path(__file__).parent / "golden"
CLASSES = [SharedBottom, ESMM, MMoE, CGC, PLE]


def predict(cls):
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


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_predictions_are_those_written_down(cls):
    written = json.loads((FOLDER / f"{cls.__name__}.json").read_text())
    np.testing.assert_allclose(predict(cls), written, rtol=1e-8)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for cls in CLASSES:
        text = json.dumps(predict(cls).tolist(), indent=1)
        (FOLDER / f"{cls.__name__}.json").write_text(text + "\n")
