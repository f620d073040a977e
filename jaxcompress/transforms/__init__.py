"""Pure rewrites: gates that multiply channels, compressions that remove them.

`gated` and `gate` try a removal without changing a shape; `shrink` carries one out; `factorize`
replaces kernels by two factors; `chain` composes compressions; `from_spec` makes any of them again
from its JSON-able description. `truncations` tries ranks without changing a shape; `input_roots`
and `refine` make factors that know the data; `output_covariances` tells which errors matter.
"""

from __future__ import annotations

from jaxcompress.prune.carried import (shrink_inputs)
from jaxcompress.low_rank.compensating import (compensate)
from jaxcompress.compression.record import (Compression, chain)
from jaxcompress.low_rank.statistics.covariance import (covariance_root, covariances_of, input_covariances, input_moments, input_roots)
from jaxcompress.low_rank.factorizing import (factorize)
from jaxcompress.prune.gating import (gate, gated, ones)
from jaxcompress.low_rank.statistics.gradients import (output_covariances, output_roots, output_sensitivities)
from jaxcompress.sparse.masks import (masked, nonzero_masks)
from jaxcompress.sparse.patterns import (Block, NofM)
from jaxcompress.low_rank.refining import (refine)
from jaxcompress.prune.shrinking import (shrink)
from jaxcompress.sparse.sparsifying import (sparsify)
from jaxcompress.artifact.spec import (from_spec)
from jaxcompress.low_rank.truncating import (multiplied_out, truncations)

__all__ = [
    "Block",
    "Compression",
    "NofM",
    "chain",
    "compensate",
    "covariance_root",
    "covariances_of",
    "factorize",
    "from_spec",
    "gate",
    "gated",
    "input_covariances",
    "input_moments",
    "input_roots",
    "masked",
    "multiplied_out",
    "nonzero_masks",
    "ones",
    "output_covariances",
    "output_roots",
    "output_sensitivities",
    "refine",
    "shrink",
    "shrink_inputs",
    "sparsify",
    "truncations",
]
