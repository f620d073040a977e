"""Does meta-learning what adapts cheaply pay? Accuracy after 1, 3 and 10 epochs of recovery.

Users keep the network *after* recovery, so gates are learned for that: through a few inner steps of
what is cheap to adapt (BatchNorm's scales and biases, or the last layer alone; gradients of first
order), or on weights that are trained along with the gates and thrown away. Beside them learned
gates without inner steps, and masked Fisher, which takes a tenth of their time and has it back as
more steps of recovery. Public weights, half of the FLOPs, widths inside blocks; recovery on the
whole network's answers; processor seconds of scoring and of recovery, compiling included.

    python -m benchmarks.adapting --network resnet20

Which way is best is asked on one half of the test images, what is said of it is of the other half.
JAXCOMPRESS_SHARED names the folder of weights and images. Rows that are there are not made again.
"""

from __future__ import annotations

__all__: list[str] = []
