"""What the teacher looks at: the examples of a data set, and the views drawn of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcompress.annotations import Array, Batch, Json, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.knowledge.drawing import Views, views
from jaxcompress.knowledge.mixing import Mix, mixed_views, partners
from jaxcompress.paths import flatten_with_paths

__all__ = ["Inputs", "Source", "draw"]


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """The examples of a data set and which views of them there are.

    Attributes:
        data: what the teacher is given, a pytree of arrays with one row per example, such as
            images `[examples, height, width, channels]`, or the tokens and mask of
            `pad_sequences`. `leaf[numbers]` gives `[batch, ...]` on the host: a NumPy array, a
            memory map, or an object that reads files.
        examples: how many there are.
        dataset: a string that tells the data apart, e.g. `fingerprint(data)`, or name and
            version of a published data set in a fixed order.
        key: of all views; None where none are drawn.
        views: how many views of each example.
        settings: what a view may change, of one array of images; None for the data as they are.
        mix: how views are mixed with other examples, or None.
        mask: `mask(batch) -> [batch, length]`, nonzero where a position is no padding, for data
            of sequences: a teacher's outputs `[batch, length, ...]` are taken to be zero at
            padding, before they are stored. None stores every position.
        on_host: where `data` draw the views themselves while they are read, what a view is, for
            JSON: then `leaf[numbers, views]` gives `[batch, ...]`, and `settings` are None.

    Raises:
        ValueError: if there are no examples or views, an array has fewer rows than there are
            examples, `settings` is None and that leaves all views equal or unmixed as asked, or
            views are to be drawn of something else than images, or without a key, or twice.
    """

    data: PyTree
    examples: int
    dataset: str
    key: jax.Array | None = None
    views: int = 1
    settings: Views | None = None
    mix: Mix | None = None
    mask: Callable[[Any], Array] | None = None
    on_host: Mapping[str, Json] | None = None

    def __post_init__(self) -> None:
        """Refuse a source of nothing, or of the same view again."""
        require(examples=integer(self.examples), views=integer(self.views))
        if self.on_host is not None and (self.settings is not None or self.mix is not None):
            raise ValueError(
                "views are drawn on the host or on the device, but both on_host and settings or "
                "mix are given; pass one of them"
            )
        is_same = self.settings is None and self.on_host is None
        if is_same and (self.views > 1 or self.mix is not None):
            raise ValueError(
                f"without settings every view is the example itself, but views={self.views} and "
                f"mix={self.mix} are asked for; pass settings=Views(...)"
            )
        leaves, _ = flatten_with_paths(self.data)
        shapes = {path: leaf.shape for path, leaf in leaves.items() if hasattr(leaf, "shape")}
        short = {path: shape for path, shape in shapes.items() if shape[:1] < (self.examples,)}
        if short or not leaves:
            raise ValueError(
                f"every array has a row for each of the {self.examples} examples, but these have "
                f"the shapes {short or 'of no array'}; give arrays [examples, ...]"
            )
        if self.settings is not None and (list(leaves) != [""] or self.key is None):
            raise ValueError(
                "views are drawn of one array of images by a key, but the data hold "
                f"{sorted(leaves)} and the key is {self.key}; pass both, or settings=None"
            )

    def describe(self) -> dict[str, Json]:
        """Say how views are drawn, for JSON."""
        return {
            "count": self.views,
            **_described(self.key),
            "settings": None if self.settings is None else dataclasses.asdict(self.settings),
            "mix": None if self.mix is None else dataclasses.asdict(self.mix),
            # Only where there is one: stores without stay what they were.
            **({} if self.mask is None else {"masked": True}),
            **({} if self.on_host is None else {"on_host": dict(self.on_host)}),
        }

    def inputs(self, examples: Batch, indices: Any) -> Inputs:
        """Fetch what `draw` needs for these views, on the host."""
        examples, indices = np.asarray(examples, np.int32), np.asarray(indices, np.int32)
        indices = np.ascontiguousarray(np.broadcast_to(indices, examples.shape))
        others = None
        if self.mix is not None:
            chosen = _partners(self.key, examples, indices, mix=self.mix)
            others = _rows(self.data, np.asarray(chosen))
        address = examples if self.on_host is None else (examples, indices)
        return Inputs(examples, indices, _rows(self.data, address), others)


class Inputs(NamedTuple):
    """A batch of views to be drawn, each field with a leading axis of the batch size.

    Attributes:
        examples: `int32[batch]`.
        indices: `int32[batch]`, which view of each.
        data: of the examples.
        others: of their partners, or None without mixing.
    """

    examples: Batch
    indices: Any
    data: PyTree
    others: Any


def _described(key: jax.Array | None) -> dict[str, Json]:
    if key is None:
        return {"key": None, "generator": None}
    numbers = np.asarray(jax.random.key_data(key)).tolist()
    return {"key": numbers, "generator": str(jax.random.key_impl(key))}


def _rows(data: PyTree, address: np.ndarray | tuple[np.ndarray, np.ndarray]) -> PyTree:
    return jax.tree.map(lambda leaf: np.asarray(leaf[address]), data)


_partners = partial(jax.jit, static_argnames="mix")(partners)


def draw(source: Source, inputs: Inputs, key: jax.Array | None) -> PyTree:
    """Draw the views, or return the data as they are; under jit pass `source.key` as `key`.

    Example:
        >>> images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
        >>> source = Source(images, 2, "tiny", jax.random.key(0))
        >>> draw(source, source.inputs([1], [0]), source.key).ravel().tolist()
        [4, 5, 6, 7]
    """
    examples, indices, data, others = inputs
    if source.settings is None or key is None:
        return jax.tree.map(jax.numpy.asarray, data)
    if source.mix is None:
        return views(key, examples, indices, data, settings=source.settings)
    settings, mix = source.settings, source.mix
    return mixed_views(key, examples, indices, data, others, settings=settings, mix=mix).images
