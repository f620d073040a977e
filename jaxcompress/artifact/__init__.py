"""In and out: compressed networks as folders of safetensors and JSON, weights from elsewhere.

`save` writes a compression and its variables, atomically; `load` gives the function and the
variables back in a fresh process; `inspect` tells what a folder holds.
"""

from __future__ import annotations

from jaxcompress.artifact.encoding import Encoding
from jaxcompress.artifact.loading import load
from jaxcompress.artifact.saving import save
from jaxcompress.artifact.spec import from_spec
from jaxcompress.artifact.summary import inspect, num_bytes
from jaxcompress.artifact.torch_weights import (
    akamaster_resnet_name,
    chengyangfu_vgg_name,
    from_torch,
    load_torch_weights,
    torchvision_resnet_name,
)

__all__ = [
    "Encoding",
    "akamaster_resnet_name",
    "chengyangfu_vgg_name",
    "from_spec",
    "from_torch",
    "inspect",
    "load",
    "load_torch_weights",
    "num_bytes",
    "save",
    "torchvision_resnet_name",
]
