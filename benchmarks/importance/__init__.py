"""Every importance here beside Torch-Pruning's: accuracy right after pruning, no fine-tuning.

Same weights (akamaster's CIFAR-10 ResNets), same images, same FLOPs, same BatchNorm re-estimation,
one program that measures everybody. Choices are made on held-out training images (`validation`);
`test` is the number to quote. From the root of a clone, with JAXCOMPRESS_SHARED set:

    python -m benchmarks.importance                                # the whole table, many hours
    python -m benchmarks.importance --network resnet20 --methods learned --ratios 0.5 --seeds 0 1

Rows that the output file holds already are not measured again, so that a table can be split among
processes and resumed; `--methods`, `--ratios` and `--seeds` choose a part of it. Torch-Pruning's
rows need its packages (`pip install --editable ".[experiments,bench]"`) and are left out, saying
so, where they are missing. Seconds are processor time of scoring and selecting, compilation
included.
"""

from __future__ import annotations

__all__: list[str] = []
