"""The environment: devices are made of cores only where nobody decided otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import environment

FLAG = environment.COUNT_FLAG


def test_cores_become_a_power_of_two_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert environment.cpu_devices({"JAX_PLATFORMS": "cpu"}) == 4


@pytest.mark.parametrize("given", [{"XLA_FLAGS": f"{FLAG}=3"}, {"JAX_PLATFORMS": "cuda,cpu"}])
def test_decisions_of_others_stand(given: dict[str, str]) -> None:
    assert environment.cpu_devices(given) is None


def test_an_accelerator_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "ACCELERATORS", (str(tmp_path),))
    assert environment.cpu_devices({}) is None
    assert environment.cpu_devices({"JAX_PLATFORMS": "cpu"}) is not None


PREPARE = """
import os
from experiments import environment
os.sched_getaffinity = lambda _: {0, 1}
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
    assert first == f"2 {tmp_path / 'jaxcompress' / 'xla'}"
    assert second.endswith("as 2 devices")
