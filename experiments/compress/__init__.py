"""Compress a network of your own, on data of your own, under one budget.

    python -m experiments.compress
    python -m experiments.compress --model my_module.py:make --data my_data.npz --budget flops=0.5

The first needs nothing: a small shipped network is trained on scikit-learn's digits, loses half of
its FLOPs, and learns from its own stored answers.

A function that `--model` names takes nothing and returns what was trained: a `torch.nn.Module`, an
NNX or an Equinox module (`(module, state)` with BatchNorm), `(module, variables)` of Linen, or
`(apply, variables)` of any pure function; one example of its inputs may follow, and a plain
function's training mode, `(apply, variables, inputs, train_apply)`. Or it is the name of a shipped
network, with its weights, or without them, to be trained first.

`--data` is `digits`; a folder with a folder of images per class; an `.npz` of `images`, or of
`inputs`, and, if there are, `labels`, `test_images` and `test_labels` (`x_train`, `y_train`,
`x_test` and `y_test` will do); a data set that TFDS has prepared; or a function that yields
batches. Labels may be missing everywhere. Pixels, `uint8`, are given to the network as
(x / 255 - mean) / std; other numbers as they are.

The last lines say where the report and the artifact are, and how it is loaded: without the model's
code, since it carries a program; `--exports onnx litert` writes, runs and compares others too.
"""

from __future__ import annotations

__all__: list[str] = []
