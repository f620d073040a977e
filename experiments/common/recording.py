"""The teacher's knowledge, stored once and checked."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from experiments.common.data import Dataset
from jaxcompress import knowledge
from jaxcompress.annotations import Json, PyTree
from jaxcompress.knowledge import store

__all__ = ["record"]


def record(
    folder: Path,
    teacher: store.Teacher,
    variables: PyTree,
    source: knowledge.Source,
    dataset: Dataset,
) -> dict[str, Json]:
    """Store what the teacher says of the source's images, and return what it took.

    Args:
        folder: of the store.
        teacher: `teacher(variables, images) -> {name: array}`, what is stored.
        variables: of the teacher.
        source: the images or views.
        dataset: whose normalisation is noted with the knowledge.
    """
    about = {"mean": list(dataset.mean), "std": list(dataset.std)}
    with Progress(transient=True) as bar:
        line = bar.add_task("knowledge", total=None)

        def show(done: store.Progress) -> None:
            size, free = done.num_bytes / 1e6, done.free_bytes / 1e9
            text = f"{size:,.1f} MB of knowledge, {free:,.0f} GB free"
            bar.update(line, completed=done.written, total=done.blocks, description=text)

        manifest = store.write(folder, teacher, variables, source, about=about, on_progress=show)
    opened = store.open_store(folder, variables=variables, source=source, about=about)
    checked = store.verify(opened, teacher, variables, source)
    return {
        "bytes": store.num_bytes(manifest),
        "bytes_on_disk": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "examples": manifest.examples,
        "largest_difference": checked.largest,
    }
