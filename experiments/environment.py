"""The machine an experiment runs on: prepared before JAX starts, described in its report.

Call `prepare` before the first use of JAX. JAX reads these settings once, when its backend starts.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["cache_folder", "cpu_devices", "describe", "prepare"]

COUNT_FLAG = "--xla_force_host_platform_device_count"
ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel0", "/dev/vfio/0")
PACKAGES = ("jaxcompress", "jax", "jaxlib", "flax", "optax", "numpy")


def prepare() -> None:
    """Make JAX use every core of a CPU-only machine, and keep compiled programs between runs.

    XLA runs most of a small network's training on one core, so each core becomes a device of its
    own and the batch is split among them. Measured for ResNet-20 training at batch 128 on 2 cores:
    267 images/s on two devices, 201 on one; restricting the threads of each device as well
    (`--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1`) changes nothing.

    Does nothing to the devices where there is an accelerator or where `XLA_FLAGS` counts them
    already. Sets `XLA_FLAGS` in this process's environment and JAX's compilation cache.

    Example:
        >>> prepare()  # doctest: +SKIP
    """
    count = cpu_devices(os.environ)
    if count:
        flags = f"{os.environ.get('XLA_FLAGS', '')} {COUNT_FLAG}={count}"
        os.environ["XLA_FLAGS"] = flags.strip()
    import jax  # only now: its backend must not have started

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))


def cpu_devices(environment: Mapping[str, str]) -> int | None:
    """How many devices to make of the CPU, or None to leave them as they are.

    The largest power of two within the cores this process may use, so that usual batch sizes
    divide by it.

    Example:
        >>> cpu_devices({"JAX_PLATFORMS": "cuda"}) is None
        True
        >>> cpu_devices({"JAX_PLATFORMS": "cpu"}) <= os.cpu_count()
        True
    """
    platforms = environment.get("JAX_PLATFORMS", "")
    if COUNT_FLAG in environment.get("XLA_FLAGS", ""):
        return None
    if platforms not in ("", "cpu") or (not platforms and _has_accelerator()):
        return None
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return 1 << (cores.bit_length() - 1)


def _has_accelerator() -> bool:
    return any(os.path.exists(device) for device in ACCELERATORS)


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
