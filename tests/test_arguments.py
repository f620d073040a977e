"""Every number that is an argument is checked by name, before anything else is touched."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.arguments import integer, real

HOSTILE: dict[str, Any] = {"nan": float("nan"), "inf": float("inf"), "-inf": -float("inf")}
HOSTILE |= {"text": "3", "true": True, "list": [1]}
NOT_WHOLE = {"half": 2.5, "array": np.array([1, 2])}
# Made by the library, or read from a file whose schema is checked; nobody fills them in.
MADE = "Consumer Cost Form Frozen Graph Group Manifest Member Record Site Term".split()
# Settings of networks go through the registry and Flax; a block's sizes are a pair.
OTHER = ["Block", "chengyangfu_vgg_name", "initialize"]


# Verification that reports and never raises.
ALLOWED = [("verify-tolerance", float("inf"))]


class Untouchable:
    """Whatever is done with it fails: numbers are checked before anything else."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for before the numbers were checked")


def exported() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Walk through everything public, each thing once."""
    waiting, seen = [jc], set()
    while waiting:
        module = waiting.pop()
        for name in module.__all__:
            value = getattr(module, name)
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, types.ModuleType):
                waiting.append(value)
            elif callable(value) and ".models." not in getattr(value, "__module__", ".models."):
                yield name, value


def kind_of(annotation: Any) -> str | None:
    """Return "int" or "float" for a parameter that takes a number, as its annotation says."""
    words = str(getattr(annotation, "__forward_arg__", annotation)).split(" | ")
    return next((word for word in words if word in ("int", "float")), None)


def cases() -> Iterator[tuple[str, str, Callable[..., Any], dict[str, Any]]]:
    """Pair every public number with its function and what else must be handed in."""
    for name, function in exported():
        if name in [*MADE, *OTHER] or (inspect.isclass(function) and issubclass(function, tuple)):
            continue
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:
            continue
        kinds = {p.name: kind_of(p.annotation) for p in parameters}
        needed = {
            p.name: 0.5 if kinds[p.name] == "float" else 1 if kinds[p.name] else Untouchable()
            for p in parameters
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        }
        for argument, kind in kinds.items():
            if kind is not None:
                yield f"{name}-{argument}", kind, function, {**needed, argument: None}


CASES = {label: (kind, function, needed) for label, kind, function, needed in cases()}


def test_all_numbers_are_there() -> None:
    assert len(CASES) > 90
    assert {"select-min_width", "kd-temperature", "Views-pad", "evaluate-batch_size"} <= set(CASES)


@pytest.mark.parametrize("label", CASES)
def test_what_is_no_number_is_refused_by_name(label: str) -> None:
    kind, function, arguments = CASES[label]
    name = label.split("-")[1]
    hostile = HOSTILE | (NOT_WHOLE if kind == "int" else {})
    for value in hostile.values():
        if (label, value) in ALLOWED:
            continue
        with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b") as refused:
            function(**arguments | {name: value})
        assert repr(value).strip("'") in str(refused.value), (value, str(refused.value))


def test_numpy_and_jax_numbers_pass_and_so_does_what_is_traced() -> None:
    assert integer(np.int64(3)) is None and integer(jax.numpy.int32(3)) is None
    assert real(np.float32(0.5)) is None and real(jax.numpy.bfloat16(0.5)) is None
    assert real(3) is None and integer(3.0) is not None
    jax.jit(lambda value: (integer(value), real(value, above=0))[0])(1.5)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (integer(9, least=1, most=8), "a whole number of 1 to 8, but is 9"),
        (integer("x", least=None), "a whole number, but is 'x'"),
        (real(0, above=0, most=1), "a finite number above 0 and of at most 1, but is 0"),
        (real(1, least=0, below=1), "a finite number of at least 0 and below 1, but is 1"),
        (real(None, optional=True), None),
    ],
)
def test_the_range_is_said(problem: str | None, text: str | None) -> None:
    assert problem == text
