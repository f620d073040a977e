"""VGG for 224x224 images: the convolutions of `VGG`, and dense layers of 4096, 4096 and 1000."""

from __future__ import annotations

from functools import partial

import jax
from flax import linen as nn

from jaxcompress.models.layers import output_logits
from jaxcompress.models.vgg import VGG

__all__ = ["ImageNetVGG"]


class ImageNetVGG(VGG):
    """VGG of Simonyan & Zisserman 2015 (arXiv:1409.1556), table 1, with its own head.

    The head is `fc1`, relu, dropout, `fc2`, relu, dropout, `classifier`, on the 7x7 positions that
    five poolings leave of 224x224 pixels. Depth 16 without batch norm has 138,357,544 parameters
    and 15.47 G multiply-accumulates, 30.94 GFLOPs.

    The attributes are those of `VGG`, with 1000 classes by default; the dense layers are 64 times
    as wide as the first stage.

    Raises:
        ValueError: if `depth` is not one of the four, or images are smaller than 32x32.

    Example:
        >>> module = ImageNetVGG(depth=11, width=2)
        >>> init = partial(module.init_with_output, train=False)
        >>> images = jax.ShapeDtypeStruct([1, 64, 64, 3], "float32")
        >>> logits, variables = jax.eval_shape(init, jax.random.key(0), images)
        >>> logits.shape, variables["params"]["fc1"]["kernel"].shape
        ((1, 1000), (64, 128))
    """

    num_classes: int = 1000

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Map `[batch, height, width, channels]` to logits `[batch, num_classes]`."""
        hidden = self._flat(images, train)
        dense = partial(nn.Dense, dtype=self.dtype)
        for name in ("fc1", "fc2"):
            hidden = nn.relu(dense(64 * self.width, name=name)(hidden))
            hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        return output_logits(dense(self.num_classes, name="classifier")(hidden))
