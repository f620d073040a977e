"""The network that an artifact names: its configuration is compared with the leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxcompress.annotations import Json
from jaxcompress.models import NETWORKS, build

__all__ = ["named_network"]


def named_network(
    name: str, config: Mapping[str, Json], shapes: Mapping[str, tuple[int, ...]] | None
) -> nn.Module:
    """Build a shipped network, if its configuration can be that of leaves of these shapes.

    Args:
        name: for `jaxcompress.models.build`.
        config: plain JSON.
        shapes: of the original leaves; None where they are not known.

    Raises:
        ValueError: if the name or a field is unknown, a value is of another type than the field's,
            or its widths, classes or depth are not those of the leaves.

    Example:
        >>> shapes = {"params/head/kernel": (64, 10), "params/stem/kernel": (3, 3, 3, 16)}
        >>> named_network("resnet20", {"num_classes": 10}, shapes).width
        16
        >>> named_network("resnet20", {"num_classes": 100}, shapes)
        Traceback (most recent call last):
            ...
        ValueError: the configuration of resnet20 must be that of the leaves, but num_classes=100: \
no leaf has such an axis; give the configuration that the network was built with
    """
    known = NETWORKS[name].module if name in NETWORKS else None
    fields = {} if known is None else {f.name: f.default for f in dataclasses.fields(known)}  # type: ignore[arg-type]
    problems = [
        f"{key}={value!r:.60}: {problem}"
        for key, value in config.items()
        if key in fields and (problem := _problem(key, value, fields[key]))
    ]
    if not problems:
        module = build(name, **config)
        problems = _unlike(module, config, shapes)
    if problems:
        raise ValueError(
            f"the configuration of {name} must be that of the leaves, but {'; '.join(problems)}; "
            "give the configuration that the network was built with"
        )
    return module


def _problem(key: str, value: Any, default: Any) -> str | None:
    """Say why a value is not of the type of a field's default."""
    if key == "dtype":
        return None if value is None or _is_dtype(value) else "no dtype"
    if type(default) is int and (type(value) is not int or not min(default, 1) <= value < 2**31):
        return f"no whole number from {min(default, 1)} on"
    if type(default) is float and (type(value) not in (int, float) or not 0 <= value < 2**31):
        return "no number from 0 on"
    if isinstance(default, bool | str) and type(value) is not type(default):
        return f"no {type(default).__name__}"
    if default is None and not isinstance(value, str | None):
        return "no name"
    return None


def _is_dtype(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(jnp.issubdtype(jnp.dtype(value), jnp.floating))
    except TypeError:
        return False


def _unlike(
    module: nn.Module, config: Mapping[str, Json], shapes: Mapping[str, tuple[int, ...]] | None
) -> list[str]:
    """Compare what every shipped network has as an axis, and its depth, with the leaves."""
    if shapes is None:
        return []
    sizes = {size for shape in shapes.values() for size in shape}
    problems = [
        f"{key}={getattr(module, key)}: no leaf has such an axis"
        for key in ("num_classes", "width")
        if getattr(module, key, 0) and getattr(module, key) not in sizes
    ]
    depth = config.get("depth", 0)
    if depth > len(shapes):
        problems.append(f"depth={depth}: there are {len(shapes)} leaves")
    return problems
