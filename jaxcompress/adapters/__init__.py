"""NNX, Equinox and PyTorch models as `(apply, variables)`: a pure function of a pytree of arrays.

That pair is all that the library works on. The other way is one line each, in `nnx_models`,
`equinox_models` and `to_torch`. Such a smaller model runs where its code reads widths off its
arrays; where it wrote them down (numbers of heads and of groups, declared shapes), use
`compression.function(apply)`, which is always right.

No framework is imported before a model of it is adapted.
"""

from __future__ import annotations

from jaxcompress.adapters.equinox_models import (
    equinox_statistics,
    equinox_trainable,
    from_equinox,
)
from jaxcompress.adapters.nnx_models import from_nnx, nnx_trainable
from jaxcompress.adapters.torch_modules import from_torch, torch_statistics, torch_trainable
from jaxcompress.adapters.torch_reading import to_torch, torch_state

__all__ = [
    "equinox_statistics",
    "equinox_trainable",
    "from_equinox",
    "from_nnx",
    "from_torch",
    "nnx_trainable",
    "to_torch",
    "torch_state",
    "torch_statistics",
    "torch_trainable",
]
