"""Programs that leave the building: StableHLO for JAX anywhere, ONNX and LiteRT for others.

`export_stablehlo` writes the function alone; the variables stay arguments. `export_onnx` and
`export_litert` write both into one file.
"""

from __future__ import annotations

from jaxcompress.artifact.export.litert_file import export_litert
from jaxcompress.artifact.export.onnx_file import export_onnx
from jaxcompress.artifact.export.stablehlo import export_stablehlo, load_stablehlo

__all__ = ["export_litert", "export_onnx", "export_stablehlo", "load_stablehlo"]
