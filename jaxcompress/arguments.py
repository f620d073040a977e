"""Numbers that are arguments, checked by name, all at once, before anything else is done.

    require(steps=integer(steps, least=1), alpha=real(alpha, above=0))

True is no number and 2.5 no count; NaN and infinity are refused everywhere. What is traced passes:
its value is not known yet.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Mapping

import jax
import numpy as np

from jaxcompress.annotations import Array

__all__ = ["each", "integer", "real", "require"]


def require(**problems: str | None) -> None:
    """Raise if a named argument has a problem.

    Args:
        **problems: by the argument's name, what `integer` or `real` says of it; None is no problem.

    Raises:
        ValueError: naming all wrong arguments, what each must be and what it is.

    Example:
        >>> require(steps=integer(2.5, least=1), rate=real(0.1, above=0), alpha=real(float("nan")))
        Traceback (most recent call last):
            ...
        ValueError: steps must be a whole number of at least 1, but is 2.5; alpha must be a finite \
number, but is nan
    """
    wrong = [f"{name} must be {problem}" for name, problem in problems.items() if problem]
    if wrong:
        raise ValueError("; ".join(wrong))


def integer(
    value: Array, *, least: int | None = 1, most: int | None = None, optional: bool = False
) -> str | None:
    """Say why a value is no whole number in `least..most`; None where it is one.

    Args:
        value: the argument.
        least: the smallest allowed; None for none.
        most: the largest allowed; None for none.
        optional: whether None is allowed too.

    Example:
        >>> integer(3), integer(0), integer(True, most=8)
        (None, 'a whole number of at least 1, but is 0', 'a whole number of 1 to 8, but is True')
    """
    if _passes(value, optional):
        return None
    if _is_whole(value) and _within(operator.index(value), least, most):
        return None
    return f"a whole number{_range(least, most)}, but is {value!r}"


def real(
    value: Array,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    optional: bool = False,
) -> str | None:
    """Say why a value is no finite number in the range; None where it is one.

    Args:
        value: the argument: a number, or an array of one.
        above: what it must exceed.
        least: the smallest allowed.
        below: what must exceed it.
        most: the largest allowed.
        optional: whether None is allowed too.

    Example:
        >>> real(0.5, above=0, most=1), real("1", least=0)
        (None, "a finite number of at least 0, but is '1'")
    """
    if _passes(value, optional):
        return None
    if _is_number(value):
        number = float(np.asarray(value, np.float64).reshape(()))
        inside = (above is None or number > above) and (below is None or number < below)
        if math.isfinite(number) and inside and _within(number, least, most):
            return None
    parts = [f" above {above}"] * (above is not None) + [_range(least, most)]
    parts += [f" below {below}"] * (below is not None)
    return f"a finite number{' and'.join(part for part in parts if part)}, but is {value!r}"


def each(value: Array | Mapping[str, Array], check: Callable[[Array], str | None]) -> str | None:
    """Say why a number, or one of those given by name, is wrong; None where none is.

    Args:
        value: a number, or `{name: number}`.
        check: says what is wrong with one number, as `integer` and `real` do.

    Example:
        >>> each(8, integer), each({"a[1]": 0, "b[1]": 2}, integer)
        (None, 'by name: for a[1] a whole number of at least 1, but is 0')
    """
    if not isinstance(value, Mapping):
        return check(value)
    problems = {name: check(number) for name, number in value.items()}
    wrong = [f"for {name} {problem}" for name, problem in problems.items() if problem]
    return f"by name: {', '.join(wrong)}" if wrong else None


def _passes(value: Array, optional: bool) -> bool:
    return isinstance(value, jax.core.Tracer) or (optional and value is None)


def _is_whole(value: Array) -> bool:
    if isinstance(value, np.ndarray | jax.Array):
        return value.ndim == 0 and np.issubdtype(value.dtype, np.integer)
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Array) -> bool:
    if isinstance(value, np.ndarray | jax.Array):
        return value.size == 1 and any(
            jax.dtypes.issubdtype(value.dtype, kind) for kind in (np.integer, np.floating)
        )
    return isinstance(value, numbers.Real | np.generic) and not isinstance(value, bool | np.bool_)


def _within(number: float, least: float | None, most: float | None) -> bool:
    return (least is None or number >= least) and (most is None or number <= most)


def _range(least: float | None, most: float | None) -> str:
    if least is None:
        return "" if most is None else f" of at most {most}"
    return f" of at least {least}" if most is None else f" of {least} to {most}"
