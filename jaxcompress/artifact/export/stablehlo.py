"""StableHLO: a function as a file of portable bytecode that needs neither its code nor its library.

Variables stay arguments of the program, by path, so that their numbers lie in one place: the file
of variables. Whoever loads a program looks at it first: a program may call kernels of its compiler,
and one of these calls Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import jax
from jax import export

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.artifact.export.exportable import Traced, first_line, traced
from jaxcompress.artifact.leaves import structs
from jaxcompress.graph.internals import without_source_lines
from jaxcompress.paths import flatten_with_paths

__all__ = [
    "PLATFORMS",
    "check_leaves",
    "export_stablehlo",
    "load_stablehlo",
    "opened",
    "serialized",
]

PLATFORMS = ("cpu", "cuda", "tpu")

SAFE_CALLS = re.compile(
    r"Sharding|shape_assertion|ApproxTopK|AllocateBuffer|(cu|hip)_threefry2x32_ffi"
    r"|stablehlo\.dynamic_(reduce_window|rng_bit_generator|top_k|approx_top_k)"
    r"|lapack_\w+|cu(solver|blas|hybrid)_\w+|Eigh|Qr|LuDecomposition"
    r"|ProductOfElementaryHouseholderReflectors"
)
"""Calls of compilers that compute arrays from arrays, and nothing else."""


def export_stablehlo(
    function: Function,
    variables: PyTree,
    *inputs: PyTree,
    platforms: Sequence[str] = PLATFORMS,
    batch_axis: int | None = 0,
) -> bytes:
    """Return `function(variables, *inputs)` as a StableHLO program for several platforms.

    The program takes the variables too: `load_stablehlo` calls it, `save(..., program=)` keeps it
    beside them. It has no derivatives. JAX promises to read it for six months.

    Args:
        function: of (variables, *inputs), e.g. `compression.function(apply)`; no host callbacks.
        variables: the compressed ones, or their shapes and dtypes.
        inputs: examples, or their shapes and dtypes; nested dicts, lists and tuples.
        platforms: any of "cpu", "cuda", "rocm" and "tpu".
        batch_axis: the axis of the inputs whose size may be any; None: only these shapes.

    Raises:
        ValueError: if something cannot be exported, naming the primitive and its line.

    Source: `jax.export`; the format is JAX's, around StableHLO's portable artifact.

    Example:
        >>> apply = lambda variables, x: x @ variables["kernel"]
        >>> variables = {"kernel": jax.numpy.ones((3, 2))}
        >>> program = export_stablehlo(apply, variables, jax.numpy.ones((1, 3)))
        >>> load_stablehlo(program)(variables, jax.numpy.ones((5, 3))).shape
        (5, 2)
    """
    require(batch_axis=integer(batch_axis, least=0, optional=True))
    _check_platforms(platforms)
    leaves, treedef = flatten_with_paths(structs(variables))

    def by_path(leaves: Mapping[str, Array], *inputs: PyTree) -> PyTree:
        return function(jax.tree.unflatten(treedef, [leaves[path] for path in paths]), *inputs)

    # A dict's leaves come in the order of its keys, the variables' in that of their tree.
    paths = list(leaves)
    program = serialized(traced(by_path, (leaves,), inputs, batch_axis), platforms)
    opened(program)
    return program


def serialized(program: Traced, platforms: Sequence[str]) -> bytes:
    """Lower a program for several platforms, without source lines, which name this machine's files.

    Raises:
        ValueError: if JAX cannot.
    """
    try:
        with without_source_lines():
            exported = export.export(jax.jit(program.call), platforms=list(platforms))
            return bytes(exported(*program.arguments).serialize())
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"a program is what jax.export can write for {', '.join(platforms)}, but "
            f"{str(error)[:1000]}; export a function of arrays in dicts, lists and tuples"
        ) from error


def load_stablehlo(program: bytes) -> Function:
    """Return the function that `export_stablehlo` was given, without its code.

    Args:
        program: bytes; take them only from whom you trust.

    Returns:
        `(variables, *inputs) -> ` what the function returned, for variables in any containers
        whose leaves have the same paths, on the platforms that it was exported for.

    Raises:
        ValueError: if the bytes are damaged or no such program, or it calls anything but array
            computations.

    Example:
        >>> load_stablehlo(b"nothing")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: a program must be what `export_stablehlo` returned, but ...
    """
    exported, expected = opened(program)

    def function(variables: PyTree, *inputs: PyTree) -> PyTree:
        leaves, _ = flatten_with_paths(variables)
        check_leaves(expected, structs(leaves))
        return exported.call(leaves, *inputs)

    return function


def opened(program: bytes) -> tuple[export.Exported, dict[str, Array]]:
    """Read a program and look for what must not be in it.

    Returns:
        The program, and the shapes and dtypes of the variables that it takes, by path.

    Raises:
        ValueError: as `load_stablehlo`.
    """
    remedy = "export it again, and take it only from whom you trust"
    try:
        exported = export.deserialize(bytearray(program))
        text = exported.mlir_module()
        (leaves, *_), keywords = jax.tree.unflatten(exported.in_tree, exported.in_avals)
        is_ours = isinstance(leaves, dict) and not keywords and exported.nr_devices == 1
        expected = {path: (leaf.shape, str(leaf.dtype)) for path, leaf in leaves.items()}
    except ImportError:
        raise
    except Exception as error:  # whatever the readers of JAX, flatbuffers and MLIR trip over
        raise ValueError(
            f"a program must be what `export_stablehlo` returned, but it cannot be read: "
            f"{type(error).__name__}: {first_line(error):.200}; {remedy}"
        ) from error
    calls = re.findall(r"custom_call\"?(?: @([\w.$]+)\()?", text)
    unsafe = sorted(
        {name or "in a form unknown" for name in calls if not SAFE_CALLS.fullmatch(name)}
    )
    if unsafe or not is_ours or exported.disabled_safety_checks:
        raise ValueError(
            "a program must take variables by path and compute arrays on one device, but "
            f"{f'it calls {unsafe}' if unsafe else 'it is another'}; {remedy}"
        )
    return exported, expected


def check_leaves(expected: Mapping[str, Array], leaves: Mapping[str, Array]) -> None:
    """Raise unless leaves have the paths, shapes and dtypes that a program takes."""
    actual = {path: (leaf.shape, str(leaf.dtype)) for path, leaf in leaves.items()}
    wrong = [
        f"{path}: {_shown(actual.get(path))} instead of {_shown(expected.get(path))}"
        for path in {**expected, **actual}
        if actual.get(path) != expected.get(path)
    ]
    if wrong:
        raise ValueError(
            f"a program takes the variables that it was exported with, but {'; '.join(wrong)}; "
            "export the function again with these variables"
        )


def _shown(leaf: tuple[Array, Array] | None) -> str:
    return "none" if leaf is None else f"{leaf[1]}{list(leaf[0])}"


def _check_platforms(platforms: Sequence[str]) -> None:
    known = (*PLATFORMS, "rocm")
    wrong = [platforms] if isinstance(platforms, str) else [p for p in platforms if p not in known]
    if wrong or not platforms:
        raise ValueError(
            f"platforms are a list of {', '.join(known)}, but platforms={platforms!r}; name one or "
            "more of these"
        )
