"""Training: pure steps, evaluation, BatchNorm re-estimation and checkpoints.

`train_step` and `jit_step` advance a `TrainState`; `evaluate` measures it; `reestimate` renews
BatchNorm statistics after a compression; `save` and `restore` interrupt and continue a run;
`fast_convolutions` makes any of these steps faster on CPUs.
"""

from __future__ import annotations

from jaxcompress.graph.trainable import (
    Leaves,
    Trainable,
    combine,
    default_trainable,
    in_params,
    inexact,
    partition,
    replace_leaves,
)
from jaxcompress.training.batch_stats import TrainApply, reestimate
from jaxcompress.training.checkpoint import checkpoint_steps, save
from jaxcompress.training.convolutions import fast_convolutions
from jaxcompress.training.evaluate import Apply, EvalStep, eval_step, evaluate
from jaxcompress.training.restore import restore
from jaxcompress.training.step import Loss, Step, TrainState, init_state, jit_step, train_step

__all__ = [
    "Apply",
    "EvalStep",
    "Leaves",
    "Loss",
    "Step",
    "TrainApply",
    "TrainState",
    "Trainable",
    "checkpoint_steps",
    "combine",
    "default_trainable",
    "eval_step",
    "evaluate",
    "fast_convolutions",
    "in_params",
    "inexact",
    "init_state",
    "jit_step",
    "partition",
    "reestimate",
    "replace_leaves",
    "restore",
    "save",
    "train_step",
]
