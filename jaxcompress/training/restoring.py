"""Restoring a checkpoint: nothing is believed that could be checked before.

First the files against their digests, then the record against what is asked for, then the layout
of the arrays; what Orbax has read is compared with the digests of what was saved.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

import jax
from jax.sharding import SingleDeviceSharding

from jaxcompress.annotations import Array, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.paths import flatten_with_paths
from jaxcompress.training import chunks, digests, record
from jaxcompress.training.step_folders import checkpoint_steps, is_score

__all__ = ["restore_checkpoint"]

State = TypeVar("State")
SHOWN = 10


def restore_checkpoint(
    directory: str | os.PathLike[str], like: State, *, step: int | None = None
) -> State:
    """Read a state back with the structure, shapes, dtypes and shardings of `like`.

    Args:
        directory: where `save_checkpoint` wrote.
        like: a freshly made state, or its `jax.eval_shape`; leaves without a sharding are
            placed on the default device. Pass the state replicated over a mesh to restore there,
            as several processes must.
        step: its number; None: the newest.

    Raises:
        FileNotFoundError: if there is no such directory, or no finished step of that number.
        ValueError: if a file of the step is damaged, naming it and the last step that is whole; or
            if leaves of `like` are others than were saved, naming each.

    Example:
        >>> import tempfile
        >>> from jaxcompress.training.checkpoint import save_checkpoint
        >>> folder = os.path.join(tempfile.mkdtemp(), "last")
        >>> save_checkpoint(folder, {"w": jax.numpy.ones(2)})
        >>> restore_checkpoint(folder, like=jax.eval_shape(lambda: {"w": jax.numpy.zeros(2)}))
        {'w': Array([1., 1.], dtype=float32)}
    """
    require(step=integer(step, least=0, optional=True))
    steps = list(checkpoint_steps(directory))
    if not steps or (step is not None and step not in steps):
        raise FileNotFoundError(
            "a checkpoint is a directory that save_checkpoint() wrote, but there is none at "
            f"{directory}{f' of step {step}, only of {steps}' if steps else ''}; check both, or "
            "start from init_state"
        )
    number = steps[-1] if step is None else step
    folder = Path(directory).absolute() / str(number)
    _check_held(like)
    leaves = _record(folder)
    different = record.mismatches(leaves, like)
    if different:
        raise ValueError(
            f"a checkpoint is restored into a state of the same leaves, but {folder} differs: "
            f"{_listed(different, '; ')}; pass the state that was saved, or one made alike"
        )
    large = chunks.oversized(folder, [max(math.prod(leaf["shape"]), 1) for leaf in leaves.values()])
    if large:
        _refuse(folder, [f"{name} unpacks to more than its leaf" for name in large])
    state = _load(folder, like)
    wrong = record.changed(leaves, state)
    if wrong:
        _refuse(folder, [f"the values of {path}" for path in wrong])
    return state


def _check_held(like: PyTree) -> None:
    """Refuse leaves of one process in several: all read a checkpoint together."""
    if jax.process_count() == 1:
        return
    alone = [
        path
        for path, leaf in flatten_with_paths(like)[0].items()
        if getattr(leaf, "sharding", None) is None or leaf.sharding.is_fully_addressable
    ]
    if alone:
        raise ValueError(
            "several processes restore a state into shardings over all of them, but these leaves "
            f"have none: {_listed(alone, ', ')}; pass parallel.replicate(state, mesh)"
        )


def _record(folder: Path) -> Mapping[str, Array]:
    """Return what the record of a step says of its leaves, if all of it is as it was written."""
    wrong = digests.damaged(folder)
    if wrong:
        _refuse(folder, wrong)
    facts = digests.facts(folder)
    wrong = [f"{digests.FILE}: {path}" for path in record.faults(facts.get("leaves"))]
    # A step under another's number would continue another run.
    if type(facts.get("step")) is not int or facts["step"] != int(folder.name):
        wrong.append(f"{digests.FILE}: step {facts.get('step')!r:.40}")
    if "score" not in facts or not is_score(facts["score"]):
        wrong.append(f"{digests.FILE}: score {facts.get('score')!r:.40}")
    return _refuse(folder, wrong) if wrong else facts["leaves"]


def _refuse(folder: Path, wrong: list[str], error: Exception | None = None) -> NoReturn:
    run = folder.parent
    # The step itself has been looked at more closely.
    others = [n for n in checkpoint_steps(run) if n != int(folder.name)]
    whole = [n for n in others if not digests.damaged(run / str(n))]
    remedy = f"pass step={whole[-1]}, which is whole" if whole else "start from init_state"
    raise ValueError(
        "the files of a checkpoint must be as save_checkpoint() wrote them, but in step "
        f"{folder.name} of {run} these are not: {_listed(wrong, ', ')}; {remedy}"
    ) from error


def _listed(names: list[str], between: str) -> str:
    """Join the first names, in characters that can be printed."""
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return between.join(names[:SHOWN] + more).encode(errors="backslashreplace").decode()


def _load(folder: Path, like: State) -> State:
    from orbax.checkpoint import v1 as orbax

    try:
        loaded: State = orbax.load(folder, jax.tree.map(_abstract, like))
        loaded = jax.tree.map(_emptied, loaded, like)
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise  # This machine's fault.
    except Exception as error:
        # Orbax raises whatever it met, down to the bare class.
        reason = str(error).strip().partition("\n")[0][:200]
        _refuse(folder, [f"what Orbax reads ({type(error).__name__}: {reason})"], error)
    return loaded


def _abstract(leaf: Array) -> jax.ShapeDtypeStruct:
    leaf = leaf if hasattr(leaf, "dtype") else jax.numpy.asarray(leaf)
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    shape = leaf.shape if math.prod(leaf.shape) else (1,)  # as `record.stored` has it
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)


def _emptied(stored: Array, leaf: Array) -> Array:
    """Return a leaf as it was before `record.stored`."""
    shape = jax.numpy.shape(leaf)
    return stored if math.prod(shape) else jax.numpy.zeros(shape, stored.dtype)
