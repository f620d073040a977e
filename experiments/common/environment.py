"""The machine an experiment runs on: prepared before anything is compiled, described in its report.

The first line of a command's `main` calls `prepare`. Importing changes nothing, and need not: JAX
reads its settings and `XLA_FLAGS` when it first starts a backend or compiles, not when it is
imported.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import jax

import jaxcompress
from experiments.common.joining import join
from jaxcompress.annotations import Json
from jaxcompress.backend import onednn

__all__ = ["cache_folder", "code_digest", "describe", "prepare", "will_use_cpu"]

ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel0", "/dev/vfio/0")
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}
"""By the flag that tells of them, widest first: what runs fast depends on them."""
PACKAGES = ("jaxcompress", "jax", "jaxlib", "flax", "optax", "numpy")


def prepare(*, several: bool = False) -> None:
    """Join the other processes of this run, if there are any; keep compiled programs between runs.

    Programs are kept where JAX can. On a CPU it cannot: convolutions run on oneDNN there
    (`backend.fast_convolutions`), and jaxlib 0.10.2 neither stores such programs nor, once it has
    tried, ever frees their memory: who trains many networks in one process reaches Linux' limit of
    memory maps.

    JAX looks at both settings once, when the process first compiles: afterwards this does nothing.

    The devices stay as they are: a CPU is one. Several devices made of its cores would have to do
    with XLA's own, slower convolutions.

    Args:
        several: whether the experiment runs in several processes; see `experiments.common.joining`.

    Raises:
        ValueError: if it does not, and is asked to.
        RuntimeError: if the processes do not find each other.

    Example:
        >>> prepare()  # doctest: +SKIP
    """
    join(several=several)
    if onednn.available() and will_use_cpu(os.environ):
        jax.config.update("jax_enable_compilation_cache", False)
    elif not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))


def will_use_cpu(variables: Mapping[str, str]) -> bool:
    """Tell whether JAX will run on the CPU, without starting its backend.

    Args:
        variables: of the environment.

    Example:
        >>> will_use_cpu({"JAX_PLATFORMS": "cpu"}), will_use_cpu({"JAX_PLATFORMS": "cuda,cpu"})
        (True, False)
    """
    platforms = variables.get("JAX_PLATFORMS", "")
    return platforms == "cpu" or not platforms and not any(map(os.path.exists, ACCELERATORS))


def cache_folder() -> Path:
    """Where decoded data and compiled programs are kept: `$XDG_CACHE_HOME/jaxcompress`.

    Example:
        >>> cache_folder().name
        'jaxcompress'
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxcompress"


@functools.cache
def code_digest() -> str:
    """Return the SHA-256 of the code of the library and the experiments, committed or not.

    Comments, docstrings and the form of the sources do not count. Versions of Python write the
    same code down differently.

    Example:
        >>> len(code_digest())
        64
    """
    whole = hashlib.sha256()
    for package in (Path(jaxcompress.__file__).parent, Path(__file__).parents[1]):
        for file in sorted(package.rglob("*.py")):
            name = file.relative_to(package.parent).as_posix()
            digest = hashlib.sha256(_code(file.read_bytes())).hexdigest()
            whole.update(f"{name}\0{digest}\n".encode())
    return whole.hexdigest()


class _Silent(ast.NodeTransformer):
    """Removes the strings that stand alone: docstrings of modules, functions and constants."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """Return nothing where the statement is a string."""
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def _code(source: bytes) -> bytes:
    """Return what a source does, whatever it says and looks like; a broken one as it is."""
    try:
        return ast.dump(_Silent().visit(ast.parse(source))).encode()
    except (SyntaxError, ValueError):
        return source


def describe() -> dict[str, Json]:
    """Say on what a result was measured.

    Returns:
        ``{"device", "versions", "commit"}``: count and kind of the devices, the version of each
        package, and the commit of this code (`-dirty` where changed since; None outside Git).

    Example:
        >>> sorted(describe())
        ['commit', 'device', 'versions']
    """
    devices = jax.devices()
    kind = devices[0].device_kind
    name = f"{_processor()}, as {len(devices)} devices" if kind == "cpu" else kind
    return {
        "device": name if kind == "cpu" else f"{len(devices)} x {name}",
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
    }


def _processor() -> str:
    """The processor's name and widest vectors, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "cpu"
    facts = dict(reversed([line.split(":", 1) for line in lines if ":" in line]))
    told = {name.strip(): value.strip() for name, value in facts.items()}
    flags = told.get("flags", "").split()
    widest = next((name for flag, name in VECTORS.items() if flag in flags), "")
    return f"{told.get('model name') or platform.machine()}{widest and f' with {widest}'}"


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
