"""Writing fixed knowledge: the teacher runs once, block by block, and may be killed at any moment.

A block is the unit of work and of loss: its files appear whole or not at all, and what it holds
depends on nothing but the teacher, the data and the views. So whoever calls `write` again goes on
with the first block that is missing, and any number of processes may share the blocks.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from jaxcompress import parallel
from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.knowledge.source import Source
from jaxcompress.knowledge.store.arrays import Block, blocks, open_arrays, unwritten
from jaxcompress.knowledge.store.compare import check_alone, check_known
from jaxcompress.knowledge.store.manifest import (
    Manifest,
    differences,
    facts,
    read_manifest,
    write_manifest,
)
from jaxcompress.knowledge.store.planning import Teacher, num_bytes, plan, recorder
from jaxcompress.knowledge.store.read import Store
from jaxcompress.knowledge.store.storage import Storage
from jaxcompress.knowledge.store.work import Work
from jaxcompress.layouts import placed
from jaxcompress.processes import by_first, check_shared, together

__all__ = ["Progress", "write"]


class Progress(NamedTuple):
    """How far the writing is.

    Attributes:
        written: blocks of this process that are on disk, from earlier calls too.
        blocks: how many blocks this process writes.
        num_bytes: size of the whole store before compression, of all processes.
        free_bytes: what the disk has left.
    """

    written: int
    blocks: int
    num_bytes: int
    free_bytes: int


def write(
    folder: str | os.PathLike[str],
    teacher: Teacher,
    variables: PyTree,
    source: Source,
    *,
    storage: Storage | None = None,
    about: Mapping[str, Json] | None = None,
    batch_size: int = 256,
    mesh: Mesh | None = None,
    part: tuple[int, int] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Manifest:
    """Store what the teacher says about every view of every example.

    Called again with the same arguments it writes what is missing, and nothing if all is there.

    Args:
        folder: of the store; made where it does not exist. All processes see the same folder.
        teacher: `teacher(variables, inputs) -> {name: [batch, ...]}`, any function; see
            `intermediates` for one of a Linen module. `inputs` are the views as drawn, so it
            normalises them itself, or the source's data, such as tokens and their mask. The
            output called `logits` may be stored in part.
        variables: of the teacher.
        source: the examples and their views.
        storage: how outputs are stored.
        about: further facts that readers must agree on, e.g. the normalisation.
        batch_size: examples per call of the teacher, a divisor of the block.
        mesh: which devices share a batch; default this process's.
        part: (number, count) of those that share the blocks; default this process and all of
            `jax.distributed`, which then begin and end together.
        on_progress: called before the first block, with the size, and after each block.

    Returns:
        The manifest.

    Raises:
        ValueError: if the folder holds other knowledge (each difference is named), a batch does
            not divide a block or by the devices, an output has not one row per example or depends
            on the other examples of a batch (a teacher in training mode), or the teacher says
            something else than what is stored.
        FloatingPointError: if an output is not finite in the dtype of the store.
        OSError: if the disk is full, what is written stays; or a file to compare with is damaged.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> teacher = lambda variables, images: {"logits": images.reshape(len(images), -1) * 1.0}
        >>> source = Source(np.zeros((6, 2, 2, 1), np.uint8), 6, "tiny", jax.random.key(0))
        >>> manifest = write(tempfile.mkdtemp(), teacher, {}, source, batch_size=8)
        >>> manifest.records["logits"].dtype
        'float16'
    """
    require(batch_size=integer(batch_size))
    storage = storage or Storage()
    mesh = mesh or parallel.mesh(jax.local_devices())
    _check_batch(batch_size, storage, mesh)
    manifest = plan(teacher, variables, source, storage, about)
    record = jax.jit(recorder(teacher, source, storage))
    size = min(batch_size, storage.block)
    work = Work(record, placed(variables, mesh), source, size, mesh)

    def write_part(number: int, count: int) -> None:
        arrays = open_arrays(folder, manifest, write=True)
        assigned = blocks(manifest)[number::count]
        missing = sorted(set(unwritten(folder, manifest)) & set(assigned))
        _check_teacher(work, Store(str(folder), manifest, arrays), missing)
        report = _reporter(folder, manifest, len(assigned), on_progress)
        report(len(assigned) - len(missing))
        _write_blocks(folder, arrays, work, missing, lambda left: report(len(assigned) - left))

    if part is not None:  # whoever else writes need not be of this run
        _claim(folder, manifest)
        write_part(*part)
        return manifest
    by_first("claiming a store", lambda: _claim(folder, manifest))
    check_shared(folder)
    together("writing a store", lambda: write_part(jax.process_index(), jax.process_count()))
    return manifest


def _check_batch(batch_size: int, storage: Storage, mesh: Mesh) -> None:
    size = min(batch_size, storage.block)
    if storage.block % size or size % mesh.size:
        raise ValueError(
            "a block is a whole number of batches, each split over the devices, but "
            f"block={storage.block}, batch_size={batch_size} and devices={mesh.size}; take powers "
            "of two, a batch no smaller than the number of devices"
        )


def _claim(folder: str | os.PathLike[str], manifest: Manifest) -> None:
    """Write the manifest where there is none; refuse the folder where there is another."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        stored = read_manifest(folder)
    except FileNotFoundError:
        return write_manifest(folder, manifest)
    offences = differences(facts(stored), facts(manifest))
    if offences:
        raise ValueError(
            "a store holds the knowledge of one teacher, data set and view setting, but "
            f"{folder} differs: {'; '.join(offences)}; write to another folder"
        )


def _check_teacher(work: Work, store: Store, missing: list[Block]) -> None:
    """Refuse, before anything is written, what would not fit to itself or to what is stored."""
    everything = blocks(store.manifest)
    check_alone(work, (missing or everything)[0])
    absent = set(unwritten(store.folder, store.manifest))
    known = next((block for block in everything if block not in absent), None)
    if known is not None:
        check_known(work, store, known)


def _reporter(
    folder: str | os.PathLike[str],
    manifest: Manifest,
    total: int,
    on_progress: Callable[[Progress], None] | None,
) -> Callable[[int], None]:
    size = num_bytes(manifest)

    def report(written: int) -> None:
        if on_progress is not None:
            on_progress(Progress(written, total, size, shutil.disk_usage(folder).free))

    return report


def _write_blocks(
    folder: str | os.PathLike[str],
    arrays: Mapping[str, Array],
    work: Work,
    missing: list[Block],
    report: Callable[[int], None],
) -> None:
    """Compute each block while the one before is being written."""
    pending: list[Array] = []
    for position, block in enumerate(missing):
        records = work.block(block)
        _finish(folder, pending)
        if position:
            report(len(missing) - position)
        rows = slice(block.start, block.stop)
        pending = [arrays[name][block.view, rows].write(x) for name, x in records.items()]
    _finish(folder, pending)
    if missing:
        report(0)


def _finish(folder: str | os.PathLike[str], pending: list[Array]) -> None:
    failed = []
    for future in pending:
        try:
            future.result()
        except (ValueError, OSError) as error:
            failed.append(str(error))
    if failed:
        raise OSError(
            errno.EIO,
            f"a block must reach the disk, but writing to {folder} failed: {'; '.join(failed)}; "
            "the blocks before it are kept: make room and call write again to go on",
        )
