"""Where tests and docstring examples run: the CPU, as eight simulated devices, full precision.

The environment is set before jax is first imported, so that subprocesses inherit it too. Programs
run once, on small arrays: compiling them with optimizations takes most of the time and is left out.
With JAXCOMPRESS_TEST_OPTIMIZED set they are compiled as users compile them.
"""

from __future__ import annotations

import gc
import importlib.util
import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
FLAGS = ["--xla_force_host_platform_device_count=8"]
if not os.environ.get("JAXCOMPRESS_TEST_OPTIMIZED"):
    FLAGS.append("--xla_backend_optimization_level=0")
    # Programs this small are compiled in one piece in half the time that 32 pieces take.
    FLAGS.append("--xla_cpu_parallel_codegen_split_count=1")
    # A flag that jaxlib does not know ends the process; later versions do not have this one.
    if version("jaxlib").startswith("0.10."):
        FLAGS.append("--xla_cpu_use_fusion_emitters=false")
GIVEN = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join(
    [*GIVEN.split(), *(flag for flag in FLAGS if flag.partition("=")[0] not in GIVEN)]
)
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
# Each operation of a program would be marked with all frames of pytest that led to it.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# Most of the tests' time is compilation, much of it the same for every worker and every run.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Programs and graphs live long: looking for garbage among them as often as usual takes 4 %.
gc.set_threshold(10_000, 10, 20)

# Modules that import PyTorch, or whose examples do, need the extra `torch`.
collect_ignore_glob: list[str] = []
if not importlib.util.find_spec("griffe"):  # of the extra `docs`
    collect_ignore_glob += ["docs/docstrings.py"]
if not all(importlib.util.find_spec(name) for name in ("torch", "torchax")):
    collect_ignore_glob += ["jaxcompress/adapters/torch*.py"]
