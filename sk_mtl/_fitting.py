"""`fit` in four steps: read, prepare, train, publish."""

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from sklearn.utils import check_random_state

from sk_mtl._checkpoints import FitCheckpoints, fingerprint, open_checkpoints
from sk_mtl._networks import TRAINING_PARAMETERS, Tasks
from sk_mtl._params import check_parameters, same
from sk_mtl._preparing import Given, Ready
from sk_mtl._reporting import FitReport
from sk_mtl._sources import SourceReader, refuse_beside
from sk_mtl._streaming import GivenSource, StreamingMixin
from sk_mtl._training import EpochHook, Ranks, fit_epochs, fit_further, join_ranks
from sk_mtl.data import ParquetSource, Rows, check_labels, check_rows

__all__ = ["FittingMixin", "Tasks"]

COPIED = ("task_types", "numeric_features", "categorical_features")
"""Parameters that may hold lists or dicts of objects with parameters of their own."""


class FittingMixin(StreamingMixin):
    """How a multi-task estimator is fitted; its parameters and hooks are those of the base."""

    if TYPE_CHECKING:

        def _check_architecture(self) -> None: ...

    def _fit(self, data: tuple[Any, Any, Any, Any], **options: Any) -> Self:
        """Read, prepare, train, publish, beside the other processes of this fit if there are some.

        What is outside of this block must not raise in one of them only.
        """
        with join_ranks() as ranks:
            return self._fit_with(ranks, data, **options)

    def _fit_with(
        self,
        ranks: Ranks | None,
        data: tuple[Any, Any, Any, Any],
        *,
        goes_on: bool,
        epochs: int,
        stream: bool = False,
        classes: Any = None,
        report: FitReport | None = None,
    ) -> Self:
        """Do the four steps."""
        if goes_on:
            self._check_unchanged()
        else:
            self._forget()
        check_parameters(self)
        self._check_architecture()
        if ranks is not None:
            # What decides on the exchanges to come: if it differed, the ranks would wait for ever.
            what = "partial_fit" if stream else "fit"
            ranks.check_same(
                {
                    "The method called": f"{what} of a fitted estimator" if goes_on else what,
                    "Whether there is a `checkpoint`": self.checkpoint is not None,
                }
            )
        generator = self.net_.iterator_train__generator if goes_on else None
        drawn = None if generator is None else generator.get_state()
        try:
            with open_checkpoints(self, ranks, goes_on=goes_on, stream=stream) as checkpoints:
                # What one step makes for the next dies with it.
                given = self._read(*data, goes_on=goes_on)
                if ranks is not None:
                    streams = isinstance(given, GivenSource)
                    ranks.check_same({"Where the rows are": "files" if streams else "memory"})
                seed = None if checkpoints is None else checkpoints.seed
                if ranks is not None and not goes_on:
                    drawn_here = check_random_state(self.random_state).randint(2**31 - 1)
                    seed = ranks.broadcast_object(int(drawn_here) if seed is None else seed)
                options: Any = {"goes_on": goes_on, "stream": stream, "seed": seed}
                ready = (
                    self._prepare_source(given, classes, ranks=ranks, **options)
                    if isinstance(given, GivenSource)
                    else self._prepare(given, classes, **options)
                )
                del given
                if ready is None:
                    return self
                if ranks is not None:
                    facts = fingerprint(self, ready)
                    # Rows first: what else differs may follow from them.
                    names = sorted(facts, key=lambda name: not name.startswith("what is"))
                    ranks.check_same({name: facts[name] for name in names})
                    ready.net.ranks = ranks
                try:
                    interrupt = self._train(
                        ready, epochs, report, checkpoints, goes_on=goes_on, stream=stream
                    )
                finally:
                    ready.net.ranks = None
                if ranks is not None:
                    ranks.part()
        except BaseException:
            if generator is None:
                self._forget()
            else:
                generator.set_state(drawn)
            raise
        self._publish(ready)
        if report is not None:
            report.end(partial(self._snapshot, ready))
        if interrupt is not None:
            raise interrupt
        return self

    # 1. Read

    def _validation(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any] | None:
        """Return rows to validate on as they were passed, or None."""
        if X is None and y is None and sample_weight is None:
            return None
        if isinstance(X, ParquetSource):
            refuse_beside("X_val", y_val=y, sample_weight_val=sample_weight)
        elif X is None or y is None:
            raise ValueError(
                f"`X_val` is {'None' if X is None else 'given'} and `y_val` is "
                f"{'None' if y is None else 'given'}; pass both, or neither of the two and no "
                "`sample_weight_val`."
            )
        return X, y, sample_weight

    def _read(
        self, X: Any, y: Any, sample_weight: Any, validation: Any, *, goes_on: bool
    ) -> Given | GivenSource:
        """Read rows and labels in any form, and check them against what is remembered."""
        names: Any = self._fitted_.encoder.names_ if goes_on else None
        before = self.task_names_ if goes_on else None
        reader = None
        if isinstance(X, ParquetSource):
            refuse_beside("X", y=y, sample_weight=sample_weight)
            reader = SourceReader(self, X, names, before)
            if reader.fits:
                X, y, sample_weight = reader.whole()
                reader = None
        if reader is not None:
            given: Given | GivenSource = GivenSource(reader, None)
            names, tasks = reader.check_columns(), reader.view.targets
        else:
            table = check_rows(self, X, names)
            read = Given(*check_labels(y, sample_weight, table, self, before), None)
            given, names = read, table.names
            tasks = [column.name for column in read.labels.columns]
        if validation is None:
            return given
        return given._replace(validation=self._read_validation(validation, names, tasks))

    def _read_validation(self, given: tuple[Any, Any, Any], names: Any, tasks: Any) -> Any:
        """Read the rows to validate on."""
        X, y, sample_weight = given
        if isinstance(X, ParquetSource):
            reader = SourceReader(self, X, names, tasks)
            if not reader.fits:
                return reader
            X, y, sample_weight = reader.whole()
        return check_labels(y, sample_weight, check_rows(self, X, names), self, tasks, "`y_val`")

    # 2. Prepare: see `PreparingMixin`

    # 3. Train

    def _train(
        self,
        ready: Ready,
        epochs: int,
        report: FitReport | None,
        checkpoints: FitCheckpoints | None,
        *,
        goes_on: bool,
        stream: bool,
    ) -> KeyboardInterrupt | None:
        """Train; return the Ctrl-C that ended it after an epoch or more."""
        if stream and goes_on:
            assert isinstance(ready.rows, Rows)
            fit_further(ready.net, ready.rows, ready.fitted.encoder.statistics())
            return None
        hook = None
        if report is not None:
            end = partial(report.end_epoch, partial(self._snapshot, ready))
            hook = EpochHook(report.begin_epoch, end)
        checkpointer = None if checkpoints is None else checkpoints.begin(ready)
        return fit_epochs(
            ready.net, ready.rows, ready.valid, epochs, hook,
            keeps=not stream, checkpointer=checkpointer,
        )  # fmt: skip

    # 4. Publish

    def _publish(self, ready: Ready) -> None:
        """Set the fitted attributes."""
        self._fitted_ = ready.fitted
        before = getattr(self, "_epochs_", [])
        now = ready.net.epochs(since=ready.past)
        self._epochs_ = [
            *before,
            *({**row, "epoch": len(before) + k} for k, row in enumerate(now, 1)),
        ]
        self._describe_tasks(ready.tasks)
        self.net_, self.module_ = ready.net, ready.net.module_

    def _snapshot(self, ready: Ready) -> dict[str, Any]:
        """Return the fitted attributes that the estimator would have if it stopped now."""
        twin = type(self)(**self.get_params(deep=False))
        twin.n_features_in_ = self.n_features_in_
        if hasattr(self, "feature_names_in_"):
            twin.feature_names_in_ = self.feature_names_in_
        twin._publish(ready)
        return {name: value for name, value in vars(twin).items() if name.endswith("_")}

    def _copy_params(self) -> dict[str, Any]:
        """Return the parameters, copies of those whose own parameters may be set later."""
        return {
            name: deepcopy(value) if name in COPIED or hasattr(value, "get_params") else value
            for name, value in self.get_params(deep=False).items()
        }

    def _check_unchanged(self) -> None:
        """Refuse to go on with another network than the one fitted."""
        before = self._fitted_.params
        for name, value in self.get_params(deep=False).items():
            if name not in TRAINING_PARAMETERS and not same(before[name], value):
                raise ValueError(
                    f"`{name}` was {before[name]!r} at the first fit and is {value!r} now; only "
                    "training parameters may change between fits with warm_start or partial_fit. "
                    "Pass warm_start=False to begin anew."
                )

    def _forget(self) -> None:
        """Drop all fitted attributes."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
