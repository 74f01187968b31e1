"""Hashes of values that are the same in every process, on every platform, and in every dtype."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

MASK = 2**64 - 1


def hash_integers(values: NDArray) -> NDArray:
    """Return the hashes of whole numbers.

    The function is the output step of the generator splitmix64: it maps numbers one to one, and
    a change in one bit changes each bit of the hash about half of the time.

    Parameters
    ----------
    values : ndarray of int
        The numbers, in the range of int64.

    Returns
    -------
    ndarray of uint64
        Of the same shape.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mtl.categorical import hash_integers, hash_value
    >>> int(hash_integers(np.array([3]))[0]) == hash_value(3) == hash_value("3")
    True
    """
    with np.errstate(over="ignore"):
        x = values.astype(np.int64, copy=False).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def hash_value(value: Any) -> int:
    """Return the hash of a string, a number or a boolean, from 0 to 2**64 - 1.

    Numbers that are equal hash alike, and so does a string that spells a whole number as Python
    prints it.

    Parameters
    ----------
    value : str, int, float, bool or numpy scalar of these
        The value.

    Raises
    ------
    TypeError
        If it is anything else.
    """
    if isinstance(value, str):
        return _hash_integer(int(value)) if _is_whole(value) else _hash_text(value)
    if isinstance(value, int | np.integer | np.bool_):
        return _hash_integer(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        whole = np.isfinite(number) and number == int(number)
        return _hash_integer(int(number)) if whole else _hash_text(repr(number))
    raise TypeError(
        f"a {type(value).__name__}, {value!r}, which is neither a string nor a number and has no "
        "hash that is the same everywhere"
    )


def _is_whole(text: str) -> bool:
    """Whether a string is a whole number as Python prints it."""
    digits = text.removeprefix("-")
    plain = digits.isascii() and digits.isdigit() and (digits[0] != "0" or text == "0")
    return plain and len(digits) < 400  # Python reads no number that is much longer


def _hash_integer(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        return _hash_text(str(value))
    x = (value + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def _hash_text(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
