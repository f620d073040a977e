"""What is no whole artifact of the network is refused, by leaf or by file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.artifact import load, save
from jaxcompress.compression import chain
from tests.artifact.small import Small, data_file, mlp

SHAPES = {"a": (3, 6), "b": (6, 2)}


def test_another_network_is_refused_by_leaf(folder: Path) -> None:
    like = {"a": {"kernel": jnp.ones((3, 7))}, "c": jnp.ones(2)}
    with pytest.raises(ValueError) as caught:
        load(folder, mlp, like)
    for words in ("b/kernel: missing", "c: unexpected", "a/kernel: (3, 7), expected (3, 6)"):
        assert words in str(caught.value)
    other_dtype = {key: {"kernel": np.zeros(shape, np.float16)} for key, shape in SHAPES.items()}
    with pytest.raises(ValueError, match="a/kernel.*float16.*expected.*float32"):
        load(folder, mlp, other_dtype)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 3)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def replace_text(old: str, new: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(re.sub(old, new, file.read_text(), count=1))


@pytest.mark.parametrize(
    ("is_data", "damage", "error", "message"),
    [
        (True, truncate, ValueError, "truncated"),
        (True, flip, ValueError, "changed"),
        (True, Path.unlink, FileNotFoundError, "missing"),
        (False, truncate, ValueError, "truncated"),
        (False, Path.unlink, FileNotFoundError, "there is no"),
        (False, lambda file: file.write_bytes(b"\xff\x00"), ValueError, "truncated or something"),
        (False, lambda file: file.write_text("[]"), ValueError, "truncated or something"),
        (False, replace_text(r'"keep": \{"1": \[0', '"keep": {"1": [4'), ValueError, "changed"),
        (False, replace_text('"format": 1', '"format": 4'), ValueError, "update jaxcompress"),
    ],
)
def test_damage_is_one_clear_error(
    folder: Path, is_data: bool, damage: Callable[[Path], object], error: Any, message: str
) -> None:
    file = data_file(folder) if is_data else folder / "structure.json"
    before = file.read_bytes()
    damage(file)
    assert not file.exists() or file.read_bytes() != before
    with pytest.raises(error, match=message) as caught:
        load(folder, mlp)
    assert str(file) in str(caught.value)


def test_missing_functions_and_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="names no shipped network and holds no program; pass `apply`"
    ):
        load(folder)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path / "nowhere", mlp)


def test_64_bits_are_not_halved_silently(tmp_path: Path) -> None:
    with jax.enable_x64(True):
        save(tmp_path, chain(), {"a": jnp.ones(2, jnp.float64)})
        assert load(tmp_path, abs)[1]["a"].dtype == jnp.float64
    with pytest.raises(ValueError, match="a: float64.*jax_enable_x64"):
        load(tmp_path, abs)


def test_what_cannot_be_loaded_is_not_saved(tmp_path: Path, plain: Small) -> None:
    refused: list[tuple[Any, Any, dict[str, Any], str]] = [
        (plain.prune, plain.variables, {}, r"a/kernel: \(3, 6\), expected \(3, 3\)"),
        (plain.prune, {"a": plain.small["a"]}, {}, "b/kernel: missing"),
        (chain(), {"a": "text", "b": jax.ShapeDtypeStruct((2,), float)}, {}, "a: str.*b: Shape"),
        (chain(), {"a": jnp.ones(2, jnp.int4)}, {}, "a: int4"),
        (chain(), {"a": 1.0}, {"metadata": {"when": {1, 2}}}, "metadata must be plain JSON"),
        (chain(), {"a": 1.0}, {"metadata": {"shape": (1, 2)}}, "metadata must survive JSON"),
        (chain(), {"a": 1.0}, {"network": ("resnet", {})}, "no network is called 'resnet'"),
        (chain(), {"a": 1.0}, {"network": ("resnet20", {"wide": 2})}, "no field 'wide'"),
        (chain(), {"a": 1.0}, {"network": ("resnet20", {"dtype": jnp.float32})}, "of resnet20"),
    ]
    for compression, variables, keywords, message in refused:
        with pytest.raises((TypeError, ValueError), match=message):
            save(tmp_path / "refused", compression, variables, **keywords)
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_saved_as_it_is_with_a_warning(tmp_path: Path, broken: float) -> None:
    variables = {"fine": jnp.ones(2), "wrong": jnp.array([1.0, broken]), "count": jnp.arange(2)}
    with pytest.warns(UserWarning, match="NaN or infinity are saved, in wrong; ") as caught:
        save(tmp_path / "artifact", chain(), variables)
    assert caught[0].filename == __file__
    loaded = load(tmp_path / "artifact", mlp)[1]
    assert {p: np.asarray(x).tobytes() for p, x in loaded.items()} == {
        p: np.asarray(x).tobytes() for p, x in variables.items()
    }
