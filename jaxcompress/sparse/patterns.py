"""Patterns: which weights a mask may keep apart from which, as pure functions of scores.

`Block()` keeps single weights, `Block((4, 4))` whole blocks, `NofM(2, 4)` two of every four along
the contracted axis. The last two axes of a kernel are its inputs and its outputs, as in Linen's
Dense and Conv; `oriented` brings other kernels into this order.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.arguments import integer, require

__all__ = ["Block", "NofM", "Pattern", "keep_largest"]

Shape: TypeAlias = tuple[int, ...]


def keep_largest(scores: jax.Array, count: int | jax.Array) -> jax.Array:
    """Mark the `count` largest scores, of equal ones some that are spread evenly.

    Args:
        scores: of any shape; NaN counts as -inf.
        count: how many, traced or not, 0 to `scores.size`.

    Returns:
        `bool[scores.shape]` with exactly `count` entries True.

    Example:
        >>> keep_largest(jnp.array([1.0, 3.0, 1.0, 1.0]), 2).tolist()
        [True, True, False, False]
    """
    flat = jnp.where(jnp.isnan(scores), -jnp.inf, scores).ravel()
    threshold = jnp.sort(flat)[jnp.clip(flat.size - count, 0, flat.size - 1)]
    above, equal = flat > threshold, flat == threshold
    return (above | _spread(equal, count - above.sum())).reshape(scores.shape)


def _spread(equal: jax.Array, count: int | jax.Array) -> jax.Array:
    """Choose exactly `count` of those marked, evenly in their order, the first among them."""
    rank = jnp.cumsum(equal)
    # A little less than the share, so that rounding cannot choose too many; the rest comes after.
    share = count / rank[-1].astype(jnp.float32) * (1 - 1e-6)
    chosen = equal & (jnp.ceil((rank - 1) * share) < jnp.ceil(rank * share))
    rest = equal & ~chosen
    return chosen | (rest & (jnp.cumsum(rest) <= count - chosen.sum()))


def _output_first(scores: jax.Array, apart: int) -> jax.Array:
    """Put the best of each output, the last axis, first; what is removed, -inf or NaN, stays so."""
    flat = scores.reshape(*scores.shape[:apart], -1, scores.shape[-1])
    flat = jnp.where(jnp.isnan(flat), -jnp.inf, flat)
    best = jax.nn.one_hot(flat.argmax(-2), flat.shape[-2], axis=-2, dtype=bool)
    others = jnp.minimum(flat, jnp.finfo(flat.dtype).max)
    return jnp.where(best & (flat > -jnp.inf), jnp.inf, others).reshape(scores.shape)


@dataclass(frozen=True)
class Block:
    """Weights are kept or removed by blocks of `shape` over inputs and outputs.

    Attributes:
        shape: rows and columns of a block; (1, 1) is unstructured.
    """

    shape: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise ValueError(f"a block has two sizes of at least 1, but {self.shape}")

    def __str__(self) -> str:
        return "unstructured" if self.shape == (1, 1) else "{}x{} blocks".format(*self.shape)

    @property
    def by_inputs(self) -> bool:
        """Whether it lies along the inputs of a kernel, not along an axis of the leaf."""
        return True

    def problem(self, shape: Shape) -> str | None:
        """Say why a leaf of this shape has no such blocks; None where it has."""
        rows, columns = self.shape
        if shape[-2] % rows or shape[-1] % columns:
            return f"{shape} does not divide into blocks of {self.shape}"
        return None

    def units(self, shape: Shape) -> int:
        """Return how many blocks a leaf has."""
        return math.prod(shape) // math.prod(self.shape)

    def kept(self, shape: Shape, sparsity: Array) -> Array:
        """Return how many blocks remain at this sparsity, at least one."""
        return rounded(self.units(shape), sparsity)

    def outputs(self, shape: Shape, apart: int = 0) -> int:
        """Return how many outputs, or blocks of outputs, a leaf has; see `Oriented.apart`."""
        return math.prod(shape[:apart]) * (shape[-1] // self.shape[1])

    def keep(
        self, scores: Sequence[jax.Array], count: Array, apart: Sequence[int] | None = None
    ) -> list[jax.Array]:
        """Return one mask per leaf that together keep the `count` blocks of highest mean score.

        Args:
            scores: per leaf.
            count: how many, at least `outputs` of all leaves where `apart` is given.
            apart: per leaf, how many axes in front number kernels of their own; first the best
                block of each output is kept.
        """
        return _kept_blocks(list(scores), count, self, None if apart is None else tuple(apart))

    def holds(self, mask: np.ndarray) -> bool:
        """Tell whether a mask keeps or removes every block as a whole."""
        blocks = self._blocks(mask)
        return bool((blocks.any(axis=(-3, -1)) == blocks.all(axis=(-3, -1))).all())

    def _blocks(self, array: Array) -> Array:
        rows, columns = self.shape
        *lead, height, width = array.shape
        return array.reshape(*lead, height // rows, rows, width // columns, columns)

    def _means(self, score: jax.Array) -> jax.Array:
        return score if self.shape == (1, 1) else self._blocks(score).mean(axis=(-3, -1))

    def _weights(self, blocks: jax.Array) -> jax.Array:
        if self.shape == (1, 1):
            return blocks
        return blocks.repeat(self.shape[0], axis=-2).repeat(self.shape[1], axis=-1)


@dataclass(frozen=True)
class NofM:
    """Of every `m` weights that follow each other along the inputs, or an axis, `n` are kept.

    2:4 along the contracted axis is what sparse tensor cores run (Mishra et al. 2021,
    arXiv:2104.08378, section 3). Its sparsity is 1 - n / m, so a schedule must end there.

    Attributes:
        n: kept of each group.
        m: size of a group.
        axis: of the leaf, along which groups lie. None means the inputs, which a graph knows;
            without a graph they are known of Linen's kernels of two axes alone.
    """

    n: int = 2
    m: int = 4
    axis: int | None = None

    def __post_init__(self) -> None:
        require(
            n=integer(self.n), m=integer(self.m), axis=integer(self.axis, least=None, optional=True)
        )
        if not 1 <= self.n <= self.m:
            raise ValueError(f"n of m keeps 1 to m weights of each m, but n={self.n}, m={self.m}")

    def __str__(self) -> str:
        return f"{self.n}:{self.m} along {self._where}"

    @property
    def by_inputs(self) -> bool:
        """Whether it lies along the inputs of a kernel, not along an axis of the leaf."""
        return self.axis is None

    @property
    def _position(self) -> int:
        return -2 if self.axis is None else self.axis

    @property
    def _where(self) -> str:
        return "the inputs" if self.axis is None else f"axis {self.axis}"

    def problem(self, shape: Shape) -> str | None:
        """Say why a leaf of this shape has no such groups; None where it has."""
        if not -len(shape) <= self._position < len(shape):
            return f"{shape} has no axis {self._position}"
        size = shape[self._position]
        if size % self.m:
            return f"{size} along {self._where} does not divide into groups of {self.m}"
        return None

    def units(self, shape: Shape) -> int:
        """Return how many weights a leaf has."""
        return math.prod(shape)

    def kept(self, shape: Shape, sparsity: Array) -> Array:
        """Return how many weights remain: of each group the same number, at least `n`."""
        of_each = rounded(self.m, sparsity)
        least = jnp.maximum if isinstance(of_each, jax.Array) else max
        return self.units(shape) // self.m * least(self.n, of_each)

    def keep(
        self, scores: Sequence[jax.Array], count: Array, apart: Sequence[int] | None = None
    ) -> list[jax.Array]:
        """Return the mask of one leaf that keeps the best `count / groups` of each group."""
        del apart  # each group of each output keeps some
        (score,) = scores
        return [_kept_of_groups(score, count, self)]

    def holds(self, mask: np.ndarray) -> bool:
        """Tell whether no group keeps more than `n`."""
        return bool((self._groups(mask).sum(axis=-1) <= self.n).all())

    def _groups(self, array: Array) -> Array:
        last = (jnp if isinstance(array, jax.Array) else np).moveaxis(array, self._position, -1)
        return last.reshape(*last.shape[:-1], -1, self.m)


Pattern: TypeAlias = Block | NofM


# One program for each pattern and shapes.
@functools.partial(jax.jit, static_argnames=("block", "apart"))
def _kept_blocks(
    scores: Sequence[jax.Array], count: Array, block: Block, apart: tuple[int, ...] | None
) -> list[jax.Array]:
    means = [block._means(score) for score in scores]
    if apart is not None:
        means = list(map(_output_first, means, apart))
    flat = jnp.concatenate([mean.ravel() for mean in means])
    parts = jnp.split(keep_largest(flat, count), np.cumsum([mean.size for mean in means])[:-1])
    return [block._weights(p.reshape(mean.shape)) for p, mean in zip(parts, means, strict=True)]


@functools.partial(jax.jit, static_argnames="pattern")
def _kept_of_groups(score: jax.Array, count: Array, pattern: NofM) -> jax.Array:
    groups = pattern._groups(score)
    of_each = count // (score.size // pattern.m)
    here, other, index = groups[..., :, None], groups[..., None, :], jnp.arange(pattern.m)
    is_better = (other > here) | ((other == here) & (index[None, :] < index[:, None]))
    kept = is_better.sum(axis=-1) < of_each
    moved = jnp.moveaxis(score, pattern._position, -1).shape
    return jnp.moveaxis(kept.reshape(moved), -1, pattern._position)


def rounded(total: int, sparsity: Array) -> Array:
    """Return `total - round(sparsity * total)`, at least one, traced where the sparsity is."""
    if isinstance(sparsity, jax.Array):
        return jnp.maximum(1, total - jnp.rint(sparsity * total).astype(jnp.int32))
    return max(1, total - round(sparsity * total))
