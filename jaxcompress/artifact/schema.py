"""What `structure.json` may say: every field is checked before anything else looks at it.

A digest tells damage from what `save` wrote, but whoever can write a file can sign it as well.
Each check returns the problems that it found, by place, so that all are reported at once. Fields of
specs and leaves that this version does not know are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from math import prod
from typing import Any

from jaxcompress.annotations import Array, Json
from jaxcompress.artifact.encoding import is_encodable, part_names
from jaxcompress.artifact.encoding import problem as stored_problem
from jaxcompress.artifact.shape_schema import is_shape
from jaxcompress.artifact.spec_schema import shapes_before

__all__ = ["DATA_NAME", "DTYPES", "PROGRAM_NAME", "problems"]

PROGRAM_NAME = ":program"
"""The tensor that holds the program, if any; paths of leaves and of their parts are others."""

DATA_NAME = r"variables-[0-9a-f]{16}\.safetensors"
"""What data files are called, as a regular expression."""

DTYPES = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "bfloat16": "BF16",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
}
"""What safetensors calls each dtype that an artifact can hold."""

KINDS: Mapping[str, tuple[type, ...]] = {
    "spec": (dict,),
    "leaves": (dict,),
    "original_shapes": (dict, type(None)),
    "nested": (bool,),
    "file": (dict,),
    "network": (dict, type(None)),
    "metadata": (dict,),
    "library": (str,),
    "empty": (list,),
    "program": (dict, type(None)),
}


def problems(content: Mapping[str, Json]) -> list[str]:
    """Return what is wrong with the content of `structure.json`, each with its place.

    Args:
        content: as JSON gave it, without `format` and `sha256`.

    Example:
        >>> problems({"spec": []})[:2]
        ['spec: a list', 'leaves: missing']
    """
    content = {"empty": [], "program": None, **content}
    offences = [
        f"{key}: {'a ' + type(content[key]).__name__ if key in content else 'missing'}"
        for key, kinds in KINDS.items()
        if key not in content or type(content[key]) not in kinds
    ]
    offences += [f"{key}: unknown" for key in content if key not in KINDS]
    if offences:
        return offences
    offences = [*_file(content["file"]), *_network(content["network"])]
    offences += _program(content["program"])
    offences += [p for path, leaf in content["leaves"].items() for p in _leaf(path, leaf)]
    return offences or [*_names(content), *_empty(content), *_shapes(content)]


def _file(file: Mapping[str, Array]) -> Iterator[str]:
    rules: Mapping[str, Callable[[Any], bool]] = {
        "name": lambda name: isinstance(name, str) and bool(re.fullmatch(DATA_NAME, name)),
        "size": lambda size: type(size) is int and size >= 0,
        "sha256": lambda digest: (
            isinstance(digest, str) and bool(re.fullmatch("[0-9a-f]{64}", digest))
        ),
    }
    yield from _broken("file", file, rules)


def _network(network: Mapping[str, Array] | None) -> Iterator[str]:
    rules = {
        "name": lambda name: isinstance(name, str),
        "config": lambda config: isinstance(config, dict),
    }
    if network is not None:
        yield from _broken("network", network, rules)


def _program(program: Mapping[str, Array] | None) -> Iterator[str]:
    rules: Mapping[str, Callable[[Any], bool]] = {
        "size": lambda size: type(size) is int and 0 < size < 2**31,
        "platforms": lambda names: (
            isinstance(names, list) and all(isinstance(name, str) for name in names)
        ),
    }
    if program is not None:
        yield from _broken("program", program, rules)
        if set(program) - set(rules):
            yield f"program: unknown {sorted(set(program) - set(rules))}"


def _leaf(path: str, leaf: Array) -> Iterator[str]:
    place = f"leaves: {path}"
    if not isinstance(leaf, dict) or not is_shape(leaf.get("shape")):
        yield f"{place}: no shape of at most 32 sizes below 2^31"
        return
    size, stored, key_impl = prod(leaf["shape"]), leaf.get("stored"), leaf.get("key_impl")
    is_key = isinstance(key_impl, str)
    rules: Mapping[str, Callable[[Any], bool]] = {
        "dtype": lambda dtype: isinstance(dtype, str) and (dtype in DTYPES or is_key),
        "key_impl": lambda impl: impl is None or is_key,
        "nonzero": lambda count: count is None or (type(count) is int and 0 <= count <= size),
    }
    yield from _broken(place, {"key_impl": None, "nonzero": None, **leaf}, rules)
    unknown = set(leaf) - {"shape", "stored", *rules}
    if unknown:
        yield f"{place}: unknown {sorted(unknown)}"
    if stored is not None:
        problem = "no such leaf is" if is_key else stored_problem(stored)
        dtype = leaf.get("dtype")
        if not problem and not is_encodable(tuple(leaf["shape"]), str(dtype), stored["values"]):
            problem = "no such leaf is"
        if problem:
            yield f"{place}: stored as {stored!r:.80}, but {problem}"


def _broken(
    place: str, value: Mapping[str, Array], rules: Mapping[str, Callable[[Any], bool]]
) -> Iterator[str]:
    for key, holds in rules.items():
        if key not in value:
            yield f"{place}: {key} is missing"
        elif not holds(value[key]):
            yield f"{place}: {key} is {value[key]!r:.80}"


def _names(content: Mapping[str, Json]) -> Iterator[str]:
    """Say which leaves would take the place of each other, in the tree or in the data file."""
    leaves: Mapping[str, Array] = content["leaves"]
    tensors = set() if content["program"] is None else {PROGRAM_NAME}
    for path, leaf in leaves.items():
        stored = leaf.get("stored")
        names = {path} if stored is None else {f"{path}:{part}" for part in part_names(stored)}
        if names & tensors:
            yield f"leaves: {path}: another leaf has tensors of the names {sorted(names & tensors)}"
        tensors |= names
        if content["nested"] and _parents(path, leaves):
            yield f"leaves: {path}: lies inside the leaf {_parents(path, leaves)[0]}"


def _empty(content: Mapping[str, Json]) -> Iterator[str]:
    """Say which empty dicts are none: a leaf, or an empty dict, is there or lies in them."""
    empty, leaves = content["empty"], content["leaves"]
    if empty and not content["nested"]:
        yield "empty: there are no dicts in a tree that is not nested"
    seen: set[Array] = set(leaves)
    for path in empty:
        if not isinstance(path, str) or path in seen or _parents(path, seen):
            yield f"empty: {path!r:.80} is no path of an empty dict"
        elif any(other.startswith(f"{path}/") or not path for other in seen):
            yield f"empty: {path!r:.80} is not empty"
        else:
            seen.add(path)


def _parents(path: str, leaves: Collection[str]) -> list[str]:
    keys = path.split("/")
    return [parent for n in range(1, len(keys)) if (parent := "/".join(keys[:n])) in leaves]


def _shapes(content: Mapping[str, Json]) -> Iterator[str]:
    """Compare the spec with the leaves, and the shapes that follow with those that are stated."""
    leaves = content["leaves"]
    now = {path: tuple(leaf["shape"]) for path, leaf in leaves.items()}
    nonzero = {path: leaf.get("nonzero") for path, leaf in leaves.items()}
    offences, before = shapes_before(content["spec"], now, nonzero)
    yield from offences
    stated = content["original_shapes"]
    if offences or stated is None:
        return
    wrong = [path for path, shape in stated.items() if not is_shape(shape)]
    yield from (f"original_shapes: {path}: {stated[path]!r:.80}" for path in wrong)
    yield from (
        f"original_shapes: {path}: {stated.get(path)}, but {before.get(path)} by the spec"
        for path in {**stated, **before}
        if not wrong and tuple(stated.get(path, [-1])) != before.get(path)
    )
