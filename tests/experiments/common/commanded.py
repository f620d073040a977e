"""One of two processes of a command: ``python -m ... PORT NUMBER MODULE ARGUMENTS``."""

from __future__ import annotations

import importlib
import math
import sys

import pytest

from experiments.common import environment, joining
from jaxcompress.backend import compiling


def main() -> None:
    """Run the command as a shell would, with the flag; programs are compiled as tests do it."""
    port, number, module, *arguments = sys.argv[1:]
    command = importlib.import_module(f"{module}.__main__").COMMAND
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "prepare", joining.join)
        patch.setattr(compiling, "LARGE", math.inf)
        command([*arguments, "--distributed", f"{number}/2@localhost:{port}"])


if __name__ == "__main__":
    main()
