"""The machine an experiment runs on: prepared before JAX starts, described in its report.

Call `prepare` before the first use of JAX. JAX reads these settings once, when its backend starts.
"""

from __future__ import annotations

import os
import platform
import subprocess
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["cache_folder", "describe", "prepare"]

PACKAGES = ("jaxcompress", "jax", "jaxlib", "flax", "optax", "numpy")


def prepare() -> None:
    """Keep compiled programs between runs.

    The devices stay as they are: a CPU is one device, whose convolutions run on oneDNN
    (`training.fast_convolutions`). A device for each of 2 cores, with XLA's own convolutions,
    trains slower (ResNet-20 at batch 128: 267 images/s against 372).

    Example:
        >>> prepare()  # doctest: +SKIP
    """
    import jax  # only now: its backend must not have started

    # Programs that call oneDNN cannot be kept; JAX says so for each of them.
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))


def cache_folder() -> Path:
    """Where decoded data and compiled programs are kept: `$XDG_CACHE_HOME/jaxcompress`.

    Example:
        >>> cache_folder().name
        'jaxcompress'
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxcompress"


def describe() -> dict[str, Any]:
    """Say on what a result was measured.

    Returns:
        ``{"device", "versions", "commit"}``: count and kind of the devices, the version of each
        package, and the commit of this code (`-dirty` where changed since; None outside Git).

    Example:
        >>> sorted(describe())
        ['commit', 'device', 'versions']
    """
    import jax

    devices = jax.devices()
    kind = devices[0].device_kind
    name = f"{_processor()}, as {len(devices)} devices" if kind == "cpu" else kind
    return {
        "device": name if kind == "cpu" else f"{len(devices)} x {name}",
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
    }


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "cpu"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
