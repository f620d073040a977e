"""Two processes under `jax.distributed`, run as tests need them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import pytest

__all__ = ["outputs_of_two"]


def outputs_of_two(module: str, *arguments: str, devices: int = 1, seconds: int = 240) -> list[str]:
    """Run ``python -m MODULE PORT NUMBER *ARGUMENTS`` twice at once; return what each says.

    Skips the test where `jax.distributed` does not run.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # Compiled as in this process, but for as many devices.
    count = "--xla_force_host_platform_device_count"
    given = os.environ.get("XLA_FLAGS", "").split()
    flags = " ".join([*(flag for flag in given if count not in flag), f"{count}={devices}"])
    both = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(port), str(number), *arguments],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        results = [process.communicate(timeout=seconds) for process in both]
    finally:
        for process in both:
            process.kill()
    if any(process.returncode for process in both):
        text = "\n".join(error for _, error in results)
        # Of any error in one process the runtime says DEADLINE_EXCEEDED in the other, later.
        errors = re.findall(r"^[\w.]*(?:Error|Exception|Interrupt)\b.*", text, re.MULTILINE)
        is_late = "DEADLINE_EXCEEDED" in " ".join(errors or [text])
        if "Multiprocess computations aren't implemented" in text or is_late:
            pytest.skip(f"jax.distributed does not run on this CPU: {text[-300:]}")
        raise AssertionError(text)
    return [said for said, _ in results]
