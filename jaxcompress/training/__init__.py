"""Training: pure steps, evaluation, BatchNorm re-estimation and checkpoints.

`train_step` and `jit_step` advance a `TrainState`; `evaluate` measures it; `reestimate` renews
BatchNorm statistics after a compression; `save_checkpoint` and `restore_checkpoint` interrupt and
continue a run, `saving_behind` writes while it goes on. `jaxcompress.backend.fast_convolutions`
makes any of these steps faster on CPUs.

Several devices: jit a step over sharded batches and pass nothing (`jit_step`, `parallel`), or call
it inside `jax.shard_map` or `jax.pmap` and pass the mapped axis as `axis_name`, as to every other
pure step of the library (scores, learned gates, candidates, covariances): `jaxcompress.per_device`.
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
from jaxcompress.training.behind import Save, saving_behind
from jaxcompress.training.checkpoint import save_checkpoint
from jaxcompress.training.evaluation import Apply, EvalStep, eval_step, evaluate
from jaxcompress.training.restoring import restore_checkpoint
from jaxcompress.training.running_layers import Running
from jaxcompress.training.step import Loss, Step, TrainState, init_state, jit_step, train_step
from jaxcompress.training.step_folders import checkpoint_steps

__all__ = [
    "Apply",
    "EvalStep",
    "Leaves",
    "Loss",
    "Running",
    "Save",
    "Step",
    "TrainApply",
    "TrainState",
    "Trainable",
    "checkpoint_steps",
    "combine",
    "default_trainable",
    "eval_step",
    "evaluate",
    "in_params",
    "inexact",
    "init_state",
    "jit_step",
    "partition",
    "reestimate",
    "replace_leaves",
    "restore_checkpoint",
    "save_checkpoint",
    "saving_behind",
    "train_step",
]
