"""A folder that one run holds, of one process or of several together."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import jax

from experiments.common.data import Dataset, identity
from experiments.common.environment import code_digest
from jaxcompress.annotations import Json
from jaxcompress.files import file_digest, locked
from jaxcompress.processes import agree, by_first, check_shared

__all__ = ["agree_on_data", "agree_on_settings", "held", "shared"]


@contextlib.contextmanager
def held(workdir: Path, config: Json) -> Iterator[None]:
    """Hold a folder, made where there is none; several processes must have one configuration.

    Args:
        workdir: the folder, which all processes see.
        config: a dataclass, the settings of the run.

    Raises:
        BlockingIOError: if another run holds the folder; it is named.
        RuntimeError: in all other processes, if the first fails.
        ValueError: if processes differ in settings or code, or do not see the folder.

    Example:
        >>> import tempfile
        >>> Config = dataclasses.make_dataclass("Config", ["seed"])
        >>> with held(Path(tempfile.mkdtemp()), Config(0)):
        ...     pass
    """
    shared(workdir, config)
    with contextlib.ExitStack() as stack:
        about = "claiming the folder of an experiment"
        by_first(about, lambda: stack.enter_context(locked(workdir)))
        yield


def shared(workdir: Path, config: Json) -> None:
    """Make a folder where there is none; processes must see it, and have one configuration.

    Args:
        workdir: the folder, which others may use as well.
        config: a dataclass, the settings of the run.

    Raises:
        RuntimeError: in all other processes, if the first fails.
        ValueError: if processes differ in settings or code, or do not see the folder.

    Example:
        >>> import tempfile
        >>> Config = dataclasses.make_dataclass("Config", ["seed"])
        >>> shared(Path(tempfile.mkdtemp()), Config(0))
    """
    agree_on_settings(config)
    by_first("making a folder", lambda: workdir.mkdir(parents=True, exist_ok=True))
    check_shared(workdir)


def agree_on_settings(config: Json) -> None:
    """Raise in all processes unless all have the same settings and code.

    Args:
        config: a dataclass, the settings of the run.

    Raises:
        ValueError: naming what differs, and in which processes.

    Example:
        >>> agree_on_settings(dataclasses.make_dataclass("Config", ["seed"])(0))
    """
    settings = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    agree("the settings of an experiment", {**settings, "code": code_digest()})


def agree_on_data(dataset: Dataset, *files: Path) -> None:
    """Raise in all processes unless all have read the same data and files.

    Args:
        dataset: as it was loaded.
        files: e.g. of weights, compared by what they hold.

    Raises:
        ValueError: naming what differs, and in which processes.

    Example:
        >>> from experiments.common.data import load
        >>> agree_on_data(load("digits"))
    """
    if jax.process_count() > 1:
        digests = {str(file): file_digest(file) for file in files}
        agree("the data of an experiment", {"data": identity(dataset), **digests})
