"""Numbers among settings, checked by name before anything is read or computed, all at once.

A name means one thing in every command, so that its limits stand here once: counts are whole
numbers of at least 1 where nothing else is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

from jaxcompress.arguments import integer, real

__all__ = ["check", "number_problems"]

FROM_ZERO = frozenset(
    "candidates choice_images epochs image_size layers large_batch_size num_classes project seed "
    "seeds steps sweeps test_images threads train_images validation_images warmup_epochs "
    "workers".split()
)
"""Counts that may be 0: none, or all, as each says."""

FROM_TWO = frozenset({"examples", "looked_at"})
"""Counts of which BatchNorm takes the spread."""


def _share(value: Any) -> str | None:
    return real(value, above=0, most=1)


def _part(value: Any) -> str | None:
    return real(value, least=0, below=1)


def _positive(value: Any) -> str | None:
    return real(value, above=0)


REALS = MappingProxyType(
    {
        **dict.fromkeys(("budgets", "bytes", "final", "flops", "keep", "ratios", "shares"), _share),
        **dict.fromkeys(("ema", "lossless", "sparsities", "sparsity"), _part),
        "least_area": _share,
        **dict.fromkeys(
            ("rate", "rates", "student_rate", "teacher_rate", "seconds", "std"), _positive
        ),
        "temperature": _positive,
        "distillation": lambda value: real(value, least=0, most=1),
        "mean": real,
        "test_share": lambda value: real(value, above=0, below=1),
    }
)
"""How each number that is no count is limited."""


def check(settings: Any) -> None:
    """Raise if a number among settings, or among those inside them, is out of its range.

    Args:
        settings: a dataclass.

    Raises:
        ValueError: naming every such number.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Config:
        ...     flops: float = 1.5
        ...     batch_size: int = 0
        >>> check(Config())
        Traceback (most recent call last):
            ...
        ValueError: these settings cannot be meant:
        - flops must be a finite number above 0 and of at most 1, but is 1.5
        - batch_size must be a whole number of at least 1, but is 0
    """
    problems = number_problems(settings)
    if problems:
        raise ValueError("these settings cannot be meant:\n- " + "\n- ".join(problems))


def number_problems(settings: Any) -> list[str]:
    """Say what is wrong with each number of settings, as an option would name it."""
    problems = []
    for name, last, value in _numbers(settings, ""):
        values = value if isinstance(value, tuple) else (value,)
        said = dict.fromkeys(problem for one in values if (problem := _limit(last)(one)))
        problems += [f"{name} must be {problem}" for problem in said]
    return problems


def _numbers(settings: Any, before: str) -> Iterator[tuple[str, str, Any]]:
    """Yield each number, or tuple of numbers: its whole name, the name of its field, the value."""
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{before}{field.name}"
        if dataclasses.is_dataclass(value) and not _refuses_itself(value):
            yield from _numbers(value, f"{name}.")
        elif _is_number(value) or (isinstance(value, tuple) and value and _is_number(value[0])):
            yield name, field.name, value


def _refuses_itself(value: Any) -> bool:
    return type(value).__module__.startswith("jaxcompress.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _limit(name: str) -> Callable[[Any], str | None]:
    if name in REALS:
        return REALS[name]
    least = 0 if name in FROM_ZERO else 2 if name in FROM_TWO else 1
    return lambda value: integer(value, least=least)
