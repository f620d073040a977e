"""The environment: compiled programs are kept where they can be; devices stay as they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from experiments.common import environment

PREPARE = """
import jax
from experiments.common import environment
from jaxcompress.backend import onednn
onednn.available = lambda: {available}
environment.prepare()
print(len(jax.devices()), jax.config.jax_enable_compilation_cache)
print(jax.config.jax_compilation_cache_dir)
print(environment.describe()["device"])
"""


@pytest.mark.parametrize("available", [True, False])
def test_prepare_in_a_fresh_process(available: bool, tmp_path: Path) -> None:
    names = {"XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"}
    variables = {name: value for name, value in os.environ.items() if name not in names}
    variables |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", PREPARE.format(available=available)],
        env=variables,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    first, folder, device = result.stdout.splitlines()
    assert first == f"1 {not available}"
    assert folder == ("None" if available else f"{tmp_path / 'jaxcompress' / 'xla'}")
    assert device.endswith("as 1 devices")


SOURCE = """
'''A module.'''
LARGEST = 3
'''Of all.'''
class Record(tuple):
    '''A record.'''
def double(x):
    '''Twice.'''
    return 2 * x  # a reason
"""
SAME = """
LARGEST = (3)
class Record(tuple):
    "Another."
def double(x):
    # Nothing to say.
    return (
        2*x
    )
"""
OTHER = [("2 * x", "x * 2"), ("= 3", "= 3.0"), ("double(x)", "double(x, y=1)"), ("tuple", "list")]


def test_the_code_counts_and_not_what_is_said_about_it() -> None:
    code = environment._code(SOURCE.encode())
    assert environment._code(SAME.encode()) == code
    for old, new in OTHER:
        changed = SOURCE.replace(old, new)
        assert changed != SOURCE and environment._code(changed.encode()) != code, new
    text = SOURCE.replace("return 2 * x", "return '2 * x'")
    assert environment._code(text.encode()) != environment._code(
        text.replace("'2 * x'", "'2*x'").encode()
    )
    broken = [b"def f(", b"x = '\0'"]
    assert [environment._code(source) for source in broken] == broken


@pytest.mark.parametrize(
    ("addition", "is_same"), [("# a remark\n", True), ("'A remark.'\n", True), ("X = 1\n", False)]
)
def test_the_digest_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, addition: str, is_same: bool
) -> None:
    for package in ("jaxcompress", "experiments"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text(SOURCE)
    monkeypatch.setattr(environment.jaxcompress, "__file__", str(tmp_path / "jaxcompress/a.py"))
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "experiments/a.py"))
    digest = environment.code_digest.__wrapped__
    before = digest()
    (tmp_path / "experiments/a.py").write_text(SOURCE + addition)
    assert (digest() == before) is is_same
    (tmp_path / "experiments/a.py").rename(tmp_path / "experiments/b.py")
    assert digest() != before


def test_an_accelerator_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "ACCELERATORS", (str(tmp_path / "none"),))
    assert environment.will_use_cpu({})
    monkeypatch.setattr(environment, "ACCELERATORS", (str(tmp_path),))
    assert not environment.will_use_cpu({})
    assert environment.will_use_cpu({"JAX_PLATFORMS": "cpu"})


def test_everything_that_is_installed_is_pinned() -> None:
    root = Path(__file__).parents[3]
    lock = (root / "requirements.lock").read_text().replace("\\\n", " ").splitlines()
    pinned = [line for line in lock if line and not line.startswith("#")]
    hashed = re.compile(r"[\w.-]+==[\w.+-]+( ; [^#]+?)?( +--hash=sha256:[0-9a-f]{64})+ *")
    assert len(pinned) > 50 and all(hashed.fullmatch(line) for line in pinned)
    build = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]["requires"]
    assert all(re.fullmatch(r"\w+==[\d.]+", requirement) for requirement in build)
