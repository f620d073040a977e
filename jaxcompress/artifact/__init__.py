"""In and out: compressed networks as folders of safetensors and JSON, weights from elsewhere.

`save` writes a compression and its variables, atomically; `load` gives the function and the
variables back in a fresh process; `inspect` tells what a folder holds. `export` writes programs
that run elsewhere: an artifact may carry one, and then loads without the model's code.
"""

from __future__ import annotations

from jaxcompress.artifact.efficientnet_weights import load_efficientnet_lite
from jaxcompress.artifact.encoding import Encoding
from jaxcompress.artifact.export import (
    export_litert,
    export_onnx,
    export_stablehlo,
    load_stablehlo,
)
from jaxcompress.artifact.hugging_face import load_hugging_face, to_hugging_face
from jaxcompress.artifact.loading import load
from jaxcompress.artifact.saving import save
from jaxcompress.artifact.spec import from_spec
from jaxcompress.artifact.summary import inspect, num_bytes
from jaxcompress.artifact.torch_names import (
    akamaster_resnet_name,
    chengyangfu_vgg_name,
    torchvision_resnet_name,
)
from jaxcompress.artifact.torch_weights import from_torch, load_torch_weights

__all__ = [
    "Encoding",
    "akamaster_resnet_name",
    "chengyangfu_vgg_name",
    "export_litert",
    "export_onnx",
    "export_stablehlo",
    "from_spec",
    "from_torch",
    "inspect",
    "load",
    "load_efficientnet_lite",
    "load_hugging_face",
    "load_stablehlo",
    "load_torch_weights",
    "num_bytes",
    "save",
    "to_hugging_face",
    "torchvision_resnet_name",
]
