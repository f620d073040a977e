"""Compiled programs: those that live as long as the functions they were made of, and small ones.

`jax.jit` keeps every function that it got as a static argument, with all that the function closes
over and each program compiled for it. Here the program refers to its functions weakly.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcompress.annotations import Function, PyTree

__all__ = ["entry", "jit_of", "stacked"]

_PROGRAMS: dict[Hashable, Callable[..., Any]] = {}


def jit_of(make: Function, *functions: Any, **options: Hashable) -> Function:
    """Return ``jax.jit(make(*functions, **options))``, the same one for the same functions.

    Args:
        make: a function of a module; called while tracing.
        functions: what a caller passed, compared as dictionaries compare their keys. What cannot
            be referred to weakly, such as a callable NamedTuple, is kept among the last eight.
        options: anything else that `make` depends on.

    Example:
        >>> def make(function):
        ...     return lambda x: function(x) + 1
        >>> def double(x):
        ...     return 2 * x
        >>> int(jit_of(make, double)(3)), jit_of(make, double) is jit_of(make, double)
        (7, True)
    """
    try:
        references = tuple(_reference(function) for function in functions)
    except TypeError:
        return _kept(make, functions, tuple(sorted(options.items())))
    key = (make, references, tuple(sorted(options.items())))
    if key not in _PROGRAMS:

        def program(*args: Any) -> Any:
            return make(*(reference() for reference in references), **options)(*args)

        _PROGRAMS[key] = jax.jit(program)
        for function in functions:
            owner = function.__self__ if isinstance(function, types.MethodType) else function
            weakref.finalize(owner, _PROGRAMS.pop, key, None).atexit = False
    return _PROGRAMS[key]


def _reference(function: Function) -> Callable[[], Any]:
    """Refer to a function weakly; a bound method is made anew on each access, its object is not."""
    if isinstance(function, types.MethodType):
        return weakref.WeakMethod(function)
    return weakref.ref(function)


@functools.lru_cache(maxsize=8)
def _kept(
    make: Function, functions: tuple[Any, ...], options: tuple[tuple[str, Any], ...]
) -> Function:
    return jax.jit(lambda *args: make(*functions, **dict(options))(*args))


def entry(tree: PyTree, number: int) -> PyTree:
    """Return entry `number` of the leading axis of every leaf.

    One program takes any entry of a tree; indexing compiles two for every shape. Arrays of NumPy
    stay on the host.

    Example:
        >>> entry({"x": jnp.arange(3), "y": jnp.ones((3, 2))}, 1)["x"].tolist()
        1
    """
    leaves, treedef = jax.tree.flatten(tree)
    taken = iter(_entries([leaf for leaf in leaves if isinstance(leaf, jax.Array)], number))
    entries = [next(taken) if isinstance(leaf, jax.Array) else leaf[number] for leaf in leaves]
    return jax.tree.unflatten(treedef, entries)


@jax.jit
def _entries(leaves: list[jax.Array], number: jax.Array) -> list[jax.Array]:
    return [lax.dynamic_index_in_dim(leaf, number, keepdims=False) for leaf in leaves]


@jax.jit
def stacked(trees: Sequence[PyTree]) -> PyTree:
    """Stack the leaves of equal trees along a new leading axis, all by one program.

    Example:
        >>> stacked([{"x": jnp.zeros(2)}, {"x": jnp.ones(2)}])["x"].tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
