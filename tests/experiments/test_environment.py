"""The environment: compiled programs are kept; devices stay as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PREPARE = """
from experiments import environment
environment.prepare()
import jax
print(len(jax.devices()), jax.config.values["jax_compilation_cache_dir"])
print(environment.describe()["device"])
"""


def test_prepare_in_a_fresh_process(tmp_path: Path) -> None:
    names = {"XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR"}
    variables = {name: value for name, value in os.environ.items() if name not in names}
    variables |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", PREPARE],
        env=variables,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = result.stdout.splitlines()
    assert first == f"1 {tmp_path / 'jaxcompress' / 'xla'}"
    assert second.endswith("as 1 devices")
