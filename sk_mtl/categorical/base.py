"""The contract of a kind of categories."""

from collections.abc import Mapping
from copy import copy
from numbers import Integral
from typing import Any, ClassVar, Self

from sk_mtl._checks import Options, ParameterError, check_count, check_number

PARAMETER = "categorical_features"


class CategoricalEncoding(Options):
    """How a categorical column enters the network.

    The constructor of a subclass stores its options under their names; those that it does not
    take are as they are here. `fit` of an estimator copies what it was given and calls `check`.

    Attributes
    ----------
    name : str
        Name of the kind, a class attribute.
    pooling : str or None
        How a cell's categories become one vector; None: a cell is one category.
    separator : str or None
        What stands between the categories of a cell that is a string.
    n_slots : int or None
        Slots that values are hashed into; None: the categories are learned.
    max_categories, min_frequency : number or None
        Which learned categories are infrequent.
    vocabulary : str or None
        Name of the vocabulary that the column shares with others.
    vectors : mapping, DataFrame or None
        Given vectors of categories.
    trainable : bool
        Whether training moves the given vectors.
    """

    name: ClassVar[str]
    pooling: str | None = None
    separator: str | None = None
    n_slots: int | None = None
    max_categories: int | None = None
    min_frequency: float | None = None
    vocabulary: str | None = None
    vectors: Any = None
    trainable: bool = True

    def check(self) -> None:
        """Check the options.

        Raises
        ------
        ParameterError
            If one cannot be used, or two cannot be used together.
        """
        if self.n_slots is not None:
            check_count(f"{PARAMETER}__n_slots", self.n_slots)
            if self.n_slots > 2**31 - 3:
                raise ParameterError(
                    f"`{PARAMETER}__n_slots` must be at most 2**31 - 3, got {self.n_slots}."
                )
        if self.max_categories is not None:
            check_count(f"{PARAMETER}__max_categories", self.max_categories)
        if isinstance(self.min_frequency, Integral):
            check_count(f"{PARAMETER}__min_frequency", self.min_frequency)
        elif self.min_frequency is not None:
            remedy = "pass a count as a whole number"
            name = f"{PARAMETER}__min_frequency"
            check_number(name, self.min_frequency, 0, 1, above=True, below=True, remedy=remedy)
        if not (self.vocabulary is None or isinstance(self.vocabulary, str)):
            raise ParameterError(
                f"`{PARAMETER}__vocabulary` must be a string or None, got {self.vocabulary!r}."
            )
        if not isinstance(self.trainable, bool):
            raise ParameterError(
                f"`{PARAMETER}__trainable` must be True or False, got {self.trainable!r}."
            )
        if not self.trainable and self.vectors is None:
            raise ParameterError(
                f"`{PARAMETER}__trainable` is False and there are no `vectors` to leave as they "
                "are; pass vectors, or trainable=True."
            )

    def __deepcopy__(self, memo: Any) -> Self:
        """Copy the options; nobody writes to `vectors`, which may be large, so they are shared."""
        return copy(self)

    def _shown(self) -> list[str]:
        """Return the options that are not the default, as they print; vectors by their number."""
        shown = []
        for name, default in self._options().items():
            value = getattr(self, name)
            if name == "vectors" and value is not None:
                kind = "dict" if isinstance(value, Mapping) else type(value).__name__
                size = f" of {len(value)}" if hasattr(value, "__len__") else ""
                shown.append(f"vectors=<{kind}{size}>")
            elif repr(value) != repr(default):
                shown.append(f"{name}={value!r}")
        return shown
