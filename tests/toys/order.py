"""Two networks under two sets of names each, which the law of names compares."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxcompress import Budget, Graph, trace
from tests.toys.record import initial, rows

BUDGET = Budget(flops=0.7)
COUNT = 12


class Convolutions(nn.Module):
    """Twelve convolutions that Linen names: Conv_10 is sorted before Conv_2."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        for _ in range(COUNT):
            images = nn.tanh(nn.Conv(8, (3, 3))(images))
        return nn.Dense(3, name="head")(images.mean((1, 2)))


class Attention(nn.Module):
    """Two blocks of attention and a feed-forward part, six layers each, that Linen names."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        for _ in range(2):
            query, key, value = (nn.Dense(8)(tokens) for _ in range(3))
            weights = jax.nn.softmax(query @ key.swapaxes(-1, -2))
            tokens = tokens + nn.Dense(8)(weights @ value)
            tokens = tokens + nn.Dense(8)(nn.tanh(nn.Dense(8)(tokens)))
        return nn.Dense(3, name="head")(tokens.mean(1))


class Case(NamedTuple):
    """One network under one set of names; `forms` says what may be factorized."""

    apply: Callable[..., Any]
    variables: Any
    inputs: jax.Array
    graph: Graph
    forms: dict[str, str]

    def loss(self, variables: Any, batch: jax.Array) -> jax.Array:
        """Return one number that depends on every output."""
        return jnp.square(self.apply(variables, batch) - 0.3).mean()


class Pair(NamedTuple):
    """A network, the same with other names, and the old path of every new one."""

    old: Case
    new: Case
    paths: dict[str, str]

    def translated(self, by_path: Mapping[str, Any]) -> dict[str, Any]:
        """Return what belongs to new paths under the old ones."""
        return {self.paths[path]: value for path, value in by_path.items()}

    def groups(self) -> dict[str, str]:
        """Return the old name of every new group: they have the same members."""
        old = {_members(group, lambda path: path): n for n, group in self.old.graph.groups.items()}
        named = self.new.graph.groups.items()
        return {n: old[_members(group, self.paths.__getitem__)] for n, group in named}


def _members(group: Any, old: Callable[[str], str]) -> frozenset[Any]:
    parts = [(old(m.path), m.axis, m.role, m.indices.tobytes()) for m in group.members]
    return frozenset(parts)


@functools.cache
def pair_of(name: str) -> Pair:
    """Build a network twice, under names that sort otherwise: w3, w8, w1, w6, ... in turn."""
    module, inputs, layer, form = {
        "convolutions": (Convolutions(), rows(4, 8, 8, 3), "Conv", "spatial"),
        "attention": (Attention(), rows(4, 5, 8), "Dense", "dense"),
    }[name]
    names = {f"{layer}_{i}": f"w{(5 * i + 3) % COUNT}" for i in range(COUNT)} | {"head": "last"}
    variables = _with_steep_spectra(initial(module, inputs), layer)
    back = {new: old for old, new in names.items()}
    renamed = {"params": {names[old]: leaves for old, leaves in variables["params"].items()}}

    def apply(tree: Any, images: jax.Array) -> Any:
        layers = {back[new]: leaf for new, leaf in tree["params"].items()}
        return module.apply({"params": layers}, images)

    kernels = [f"{layer}_{i}" for i in range(COUNT) if layer == "Dense" or i]
    forms = {f"params/{old}/kernel": form for old in kernels}
    new_forms = {f"params/{names[old]}/kernel": form for old in kernels}
    old_case = Case(module.apply, variables, inputs, trace(module.apply, variables, inputs), forms)
    new_case = Case(apply, renamed, inputs, trace(apply, renamed, inputs), new_forms)
    paths = {
        f"params/{n}/{leaf}": f"params/{o}/{leaf}" for o, n in names.items() for leaf in LEAVES
    }
    return Pair(old_case, new_case, paths)


LEAVES = ("kernel", "bias")


def _with_steep_spectra(variables: Any, layer: str) -> Any:
    """Give every kernel a spectrum of its own, so that no two sites want the same rank."""
    layers = dict(variables["params"])
    for i in range(COUNT):
        kernel = np.asarray(layers[f"{layer}_{i}"]["kernel"])
        wide = kernel if layer == "Dense" else kernel.transpose(0, 2, 1, 3)
        left, values, right = np.linalg.svd(wide.reshape(-1, 8 if layer == "Dense" else 24), False)
        falling = values[0] * np.geomspace(1.0, 10.0 ** -(((7 * i) % COUNT) / 4), len(values))
        changed = ((left * falling) @ right).reshape(wide.shape)
        changed = changed if layer == "Dense" else changed.transpose(0, 2, 1, 3)
        layers[f"{layer}_{i}"] = {**layers[f"{layer}_{i}"], "kernel": jnp.asarray(changed)}
    return {"params": layers}


def reordered(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Give a dict in the opposite order."""
    return dict(reversed(list(tree.items())))


every_network = pytest.mark.parametrize("name", ["convolutions", "attention"])
