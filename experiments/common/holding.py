"""A folder that one run holds, of one process or of several together."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from experiments.common.environment import code_digest
from jaxcompress.annotations import Json
from jaxcompress.files import locked
from jaxcompress.processes import agree, by_first, check_shared

__all__ = ["held"]


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
    settings = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    agree("the settings of an experiment", {**settings, "code": code_digest()})
    with contextlib.ExitStack() as stack:
        by_first("claiming the folder of an experiment", lambda: _claim(stack, workdir))
        check_shared(workdir)
        yield


def _claim(stack: contextlib.ExitStack, workdir: Path) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    stack.enter_context(locked(workdir))
