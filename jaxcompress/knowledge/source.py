"""What the teacher looks at: the examples of a data set, and the views drawn of each."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcompress.annotations import Batch, Json
from jaxcompress.arguments import integer, require
from jaxcompress.knowledge.drawing import Views, views
from jaxcompress.knowledge.mixing import Mix, mixed_views, partners

__all__ = ["Inputs", "Source", "draw"]


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """The examples of a data set and which views of them there are.

    Attributes:
        images: `images[examples]` gives `[batch, height, width, channels]` on the host for an
            array of example numbers: a NumPy array, a memory map, or an object that reads files.
        examples: how many there are.
        dataset: a string that tells the data apart, e.g. `fingerprint(images)`, or name and
            version of a published data set in a fixed order.
        key: of all views.
        views: how many views of each example.
        settings: what a view may change; None for the images as they are.
        mix: how views are mixed with other examples, or None.

    Raises:
        ValueError: if there are no examples or views, or `settings` is None and that leaves all
            views equal or unmixed as asked.
    """

    images: Batch
    examples: int
    dataset: str
    key: jax.Array
    views: int = 1
    settings: Views | None = None
    mix: Mix | None = None

    def __post_init__(self) -> None:
        """Refuse a source of nothing, or of the same view again."""
        require(examples=integer(self.examples), views=integer(self.views))
        if self.settings is None and (self.views > 1 or self.mix is not None):
            raise ValueError(
                f"without settings every view is the image itself, but views={self.views} and "
                f"mix={self.mix} are asked for; pass settings=Views(...)"
            )

    def describe(self) -> dict[str, Json]:
        """Say how views are drawn, for JSON."""
        return {
            "count": self.views,
            "key": np.asarray(jax.random.key_data(self.key)).tolist(),
            "generator": str(jax.random.key_impl(self.key)),
            "settings": None if self.settings is None else dataclasses.asdict(self.settings),
            "mix": None if self.mix is None else dataclasses.asdict(self.mix),
        }

    def inputs(self, examples: Batch, indices: Any) -> Inputs:
        """Fetch what `draw` needs for these views, on the host."""
        examples, indices = np.asarray(examples, np.int32), np.asarray(indices, np.int32)
        indices = np.ascontiguousarray(np.broadcast_to(indices, examples.shape))
        others = None
        if self.mix is not None:
            chosen = _partners(self.key, examples, indices, mix=self.mix)
            others = np.asarray(self.images[np.asarray(chosen)])
        return Inputs(examples, indices, np.asarray(self.images[examples]), others)


class Inputs(NamedTuple):
    """A batch of views to be drawn, each field with a leading axis of the batch size.

    Attributes:
        examples: `int32[batch]`.
        indices: `int32[batch]`, which view of each.
        images: of the examples.
        others: of their partners, or None without mixing.
    """

    examples: Batch
    indices: Any
    images: Batch
    others: Any


_partners = partial(jax.jit, static_argnames="mix")(partners)


def draw(source: Source, inputs: Inputs, key: jax.Array) -> jax.Array:
    """Draw the views; under jit pass `source.key` as `key`.

    Example:
        >>> images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
        >>> source = Source(images, 2, "tiny", jax.random.key(0))
        >>> draw(source, source.inputs([1], [0]), source.key).ravel().tolist()
        [4, 5, 6, 7]
    """
    examples, indices, images, others = inputs
    if source.settings is None:
        return jax.numpy.asarray(images)
    if source.mix is None:
        return views(key, examples, indices, images, settings=source.settings)
    settings, mix = source.settings, source.mix
    return mixed_views(key, examples, indices, images, others, settings=settings, mix=mix).images
