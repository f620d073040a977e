"""`import jaxcompress` is light: what only some users need loads when they use it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("tensorflow", "tensorflow_datasets", "matplotlib", "orbax", "sklearn")


def test_import_loads_nothing_heavy() -> None:
    program = (
        f"import sys, jaxcompress; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert not loaded, f"import jaxcompress loads {loaded}; import them where they are used"
