"""One of two processes of commands, one after the other: ``python -m ... PORT NUMBER FILE``.

The file is JSON, a list of commands: the name of a module, then arguments.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.common import environment, joining
from jaxcompress import artifact
from jaxcompress.backend import compiling

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def refuse_to_write(folder: Path) -> None:
    """Raise wherever Python would change something in a folder, from now on."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", *CHANGES) or not isinstance(arguments[0], str | os.PathLike):
            return
        if event == "open" and not arguments[2] & WRITES:
            return
        path = Path(os.path.abspath(arguments[0]))
        # Processes write a checkpoint together, where it is no checkpoint yet.
        if folder in path.parents and ".unfinished" not in path.parts:
            raise AssertionError(f"the first process alone writes, but {event} {arguments}")

    sys.addaudithook(look)


def read_late(patch: pytest.MonkeyPatch) -> None:
    """Look at sizes of artifacts a moment later, when the first may have gone on."""
    look = artifact.num_bytes

    def late(folder: Path) -> int:
        time.sleep(0.5)
        return look(folder)

    patch.setattr(artifact, "num_bytes", late)


def main() -> None:
    """Run commands as a shell would, with the flag; programs are compiled as tests do it."""
    port, number, file = sys.argv[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "prepare", joining.join)
        patch.setattr(compiling, "LARGE", math.inf)
        if number != "0":
            read_late(patch)
        for module, *arguments in json.loads(Path(file).read_text()):
            if number != "0":
                refuse_to_write(Path(arguments[arguments.index("--workdir") + 1]))
            command = importlib.import_module(module).COMMAND
            command([*arguments, "--distributed", f"{number}/2@localhost:{port}"])


if __name__ == "__main__":
    main()
