"""Scores, and predictions of rows that memory need not hold."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sk_mtl._prediction import PredictionMixin
from sk_mtl._sources import SourceReader, refuse_beside, telling_place
from sk_mtl.data import ParquetSource, atomic_parquet, check_labels, check_rows
from sk_mtl.data.frames import to_pandas
from sk_mtl.tasks import Column


class BulkPredictionMixin(PredictionMixin):
    """How a fitted estimator scores rows, and predicts those of a source."""

    def score(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean of the tasks' scores.

        They are accuracy (classes), R² (regression) and D² (count: of the Poisson deviance;
        quantile: of the pinball loss).

        Parameters
        ----------
        X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features), or ParquetSource
            The rows. Of a source, labels and predictions are in memory, and a window of X.
        y : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Their labels; those not observed are left out, task by task. None for a source.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Weights of rows, or of single labels. None for a source.

        Returns
        -------
        float
        """
        check_is_fitted(self)
        if isinstance(X, ParquetSource):
            refuse_beside("X", y=y, sample_weight=sample_weight)
            return self._score_source(X)
        table = self._read_rows(X)
        table, labels = check_labels(y, sample_weight, table, self, self.task_names_)
        found = self._each_of(table, self._decode)
        return self._score_labels(found, labels.columns, labels.weight)

    def _score_labels(
        self, found: Sequence[NDArray], columns: Sequence[Column], weight: NDArray | None
    ) -> float:
        """Return the score of predictions, (n,) of each task."""
        scores = []
        for k, (task, values, column) in enumerate(zip(self.tasks_, found, columns, strict=True)):
            seen = column.observed
            weights = None if weight is None else weight[seen, k]
            if seen.any():
                task.check_scored(column.values)
                scores.append(task.score(column.values, values[seen], weights))
        if not scores:
            raise ValueError("y has no observed label to score.")
        return float(np.mean(scores))

    def predict_source(
        self,
        source: ParquetSource,
        out: Any,
        *,
        columns: Sequence[str] = (),
        filesystem: Any = None,
    ) -> None:
        """Predict the rows of Parquet files, and write the predictions to one.

        Rows keep their order, and no more than a window of them is in memory. The file gets its
        name when it is whole: an error, or a Ctrl-C, leaves what stood there before.

        Parameters
        ----------
        source : ParquetSource
            The rows. Its `targets` and `sample_weight` are not read, and of its columns those that
            `fit` saw.
        out : path-like
            File to write: for each task a column of its name with what `predict` gives, and for
            each of its classes one with the probability, named as `get_proba_names_out` has it.
        columns : sequence of str, default=()
            Columns of the source that are copied in front of them, such as an id.
        filesystem : optional
            Where `out` lies, see `ParquetSource`.

        Raises
        ------
        TypeError
            If `source` is none.
        DataFileError, ValueError
            If the source cannot be read, or a column has the name of a prediction.
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self)
        if not isinstance(source, ParquetSource):
            raise TypeError(
                f"`source` is a {type(source).__name__}; pass a ParquetSource, or use `predict`."
            )
        named = self._prediction_names()
        twice = [name for name in columns if name in named]
        if twice:
            raise ValueError(
                f"`columns` names {twice[0]!r}, which is the name of a prediction; leave it out, "
                "or rename the column."
            )
        view, names = self._open_to_predict(source, columns)
        tables = self._predicted(view, names, named, columns)
        first = next(tables)
        with atomic_parquet(out, first.schema, filesystem) as file:
            for table in chain([first], tables):
                file.write(table)

    def _predicted(
        self, view: Any, names: Sequence[str], named: Sequence[str], columns: Sequence[str]
    ) -> Iterator[Any]:
        """Yield tables of predictions."""
        import pyarrow

        schema = None
        for start, table in view.stream(dictionaries=False):
            frame = to_pandas(table.select(names))
            # What was fitted to an array goes by positions.
            X = frame if hasattr(self, "feature_names_in_") else frame.to_numpy()
            with telling_place(view, partial(range_of, start, table)):
                X = check_rows(self, X, self._fitted_.encoder.names_)
                found = self._each_of(X, self._predictions)
            arrays = [*(table[name] for name in columns), *map(pyarrow.array, found)]
            made = pyarrow.table(arrays, names=[*columns, *named])
            schema = made.schema if schema is None else schema
            yield made.cast(schema)

    def _open_to_predict(self, source: ParquetSource, columns: Sequence[str]) -> Any:
        """Return a view of the columns to read, and the names of those of X."""
        known = self._fitted_.encoder.names_
        names = list(known) if hasattr(self, "feature_names_in_") else source.features
        features = names if names is None else [*names, *(c for c in columns if c not in names)]
        params = source.get_params() | {"targets": None, "sample_weight": None}
        view = ParquetSource(**params | {"features": features}).open()
        return view, view.names if names is None else names

    def _prediction_names(self) -> list[str]:
        """Return the names of the columns of predictions."""
        names = list(self.get_proba_names_out()) if self._known_kinds() != {"regressor"} else []
        return [*self.task_names_, *names]

    def _predictions(self, logits: Tensor) -> list[NDArray]:
        """Return what is written of some rows, column by column."""
        columns = self._decode(logits)
        for block in self._probabilities(logits, members=False):
            columns += list(np.ascontiguousarray(block.T))
        return columns

    def _score_source(self, source: ParquetSource) -> float:
        """Return the score of a source: labels and predictions of all rows are kept, X is not."""
        reader = SourceReader(self, source, self._fitted_.encoder.names_, self.task_names_)
        found, pieces = [], []
        with reader.placed():
            for piece in reader.pieces():
                found.append(self._each_of(piece.table, self._decode))
                pieces.append(piece.labels)
        values = [np.concatenate(own) for own in zip(*found, strict=True)]
        columns = [
            Column(
                own[0].name,
                np.concatenate([column.values for column in own]),
                np.concatenate([column.observed for column in own]),
            )
            for own in zip(*(labels.columns for labels in pieces), strict=True)
        ]
        weights = None
        if pieces and pieces[0].weight is not None:
            weights = np.concatenate([labels.weight for labels in pieces])
        return self._score_labels(values, columns, weights)


def range_of(start: int, table: Any) -> tuple[int, int]:
    """Return the number of a table's first row, and of the row behind its last."""
    return start, start + len(table)
