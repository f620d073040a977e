"""`import jaxcompress` is light: what only some users need loads when they use it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

HEAVY = ("tensorflow", "tensorflow_datasets", "matplotlib", "orbax", "sklearn", "torch", "torchax")


def test_import_loads_nothing_heavy() -> None:
    program = (
        f"import sys, jaxcompress; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert not loaded, f"import jaxcompress loads {loaded}; import them where they are used"


PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
MODULES = {"scikit-learn": "sklearn"}
# Flax itself installs and imports it.
BROUGHT = {"rich"}

WITHOUT = """
import sys, tempfile
for name in sys.argv[1:]:
    sys.modules[name] = None  # importing it fails as where it is not installed
import jax, jax.numpy as jnp
import jaxcompress as jc
from jaxcompress.report import details, page, plot_compression

def apply(variables, x):
    return jax.nn.relu(x @ variables["a"]) @ variables["b"]

variables = {"a": jnp.arange(12.0).reshape(3, 4), "b": jnp.ones((4, 2))}
graph = jc.trace(apply, variables, jnp.ones((1, 3)))
keep = jc.select(graph, jc.importance.magnitude(graph, variables), jc.Budget(flops=0.5))
small = jc.shrink(graph, keep)
outputs = small.function(apply)(small.variables(variables), jnp.ones((1, 3)))
assert outputs.shape == (1, 2) and float(jnp.abs(outputs).min()) > 0
row = dict.fromkeys(("accuracy", "num_params", "num_nonzero", "flops", "bytes"))
row |= {"name": "small", "latency_ms": None, "seconds": None}
row["details"] = details(graph, small, variables)
environment = {"device": "cpu", "versions": {}, "commit": None}
report = {"experiment": "demo", "config": {}, "environment": environment, "rows": [row]}
assert "a[1]" in page({"run": report})
try:
    plot_compression(tempfile.mkdtemp() + "/picture.png", "halved", graph, keep, [])
except ImportError as error:
    print(error)
"""


def extra_modules() -> list[str]:
    """Name what the extra `experiments` installs and the library itself does not ask for."""
    names = [
        re.split(r"[>=<;\\[]", line)[0] for line in PROJECT["optional-dependencies"]["experiments"]
    ]
    return [MODULES.get(n, n.replace("-", "_")) for n in names if n not in BROUGHT]


def test_the_library_works_without_what_experiments_need() -> None:
    names = extra_modules()
    assert {"matplotlib", "tensorflow_datasets", "tyro"} <= set(names)
    program = [sys.executable, "-c", WITHOUT, *names]
    said = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert "matplotlib" in said and "jaxcompress[experiments]" in said
