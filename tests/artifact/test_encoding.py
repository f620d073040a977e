"""Encoded artifacts: bits kept or rounded as promised, bytes counted, damage found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress import sparse
from jaxcompress.artifact import Encoding, inspect, num_bytes
from jaxcompress.artifact.encoding import decode, encode
from jaxcompress.sparse import sparsify

RANDOM = np.random.default_rng(0)


def weights(shape: tuple[int, ...], density: float, dtype: Any = np.float32) -> np.ndarray:
    values = RANDOM.normal(size=shape) * (RANDOM.random(shape) < density)
    return values.astype(dtype)


@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_exact_keeps_every_bit(density: float, dtype: Any) -> None:
    array = weights((3, 5, 7), density, dtype)
    array[0, 0, :3] = [-0.0, np.inf, np.nan]
    one = encode(array, Encoding())
    assert one is not None and one.stored["sparse"] == (density < 1)
    back = decode(*one, array.shape, array.dtype.name)
    assert back.dtype == array.dtype and back.tobytes() == array.tobytes()


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_rounding_stays_within_its_bound(density: float) -> None:
    array = weights((3, 3, 8, 16), density) * np.linspace(0.01, 3, 16, dtype=np.float32)
    array[..., 3] = 0
    for values in ("bfloat16", "int8"):
        one = encode(array, Encoding(values))
        assert one is not None
        back = decode(*one, array.shape, "float32")
        error = np.abs(back - array)
        largest = np.abs(array).max(axis=(0, 1, 2))
        bound = np.abs(array) * 2.0**-8 if values == "bfloat16" else largest / 127 / 2 * 1.0001
        assert (error <= bound).all() and error.max() > 0
        assert not back[array == 0].any()
        dense = encode(array, Encoding(values, sparse=False))
        assert dense is not None and not dense.stored["sparse"]
        assert decode(*dense, array.shape, "float32").tobytes() == back.tobytes()


def test_what_is_not_a_float_kernel_stays_as_it_is() -> None:
    for array in (np.ones(9, np.float32), np.ones((3, 3), np.int32), np.ones((0, 3), np.float32)):
        assert encode(array, Encoding("int8")) is None
    with pytest.raises(ValueError, match="one of.*values='int4'"):
        Encoding("int4")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def network() -> Any:
    variables = {
        "params": {
            "a": {"kernel": jnp.asarray(weights((300, 400), 1.0)), "bias": jnp.ones(400)},
            "b": {"kernel": jnp.asarray(weights((400, 10), 1.0))},
        },
        "batch_stats": {"mean": jnp.ones(400)},
    }
    pruned = sparsify(variables, sparse.make_masks(variables, 0.875))
    return pruned, pruned.variables(variables)


def test_bytes_and_counts_are_reported_separately(tmp_path: Path, network: Any) -> None:
    pruned, small = network
    dense_bytes = 4 * (120_000 + 400 + 4_000 + 400)
    sizes = {}
    for name, encoding in {
        "raw": None,
        "exact": Encoding(),
        "bfloat16": Encoding("bfloat16"),
        "int8": Encoding("int8"),
    }.items():
        jc.save(tmp_path / name, pruned, small, encoding=encoding)
        summary = inspect(tmp_path / name)
        sizes[name] = summary["bytes"]
        assert summary["bytes"] == num_bytes(tmp_path / name)
        assert summary["params"] == summary["original_params"] == 124_400
        assert summary["dense_bytes"] == dense_bytes
        assert summary["ratio"] == dense_bytes / summary["bytes"]
        lost = 15_500 + 400 - summary["nonzero"]
        assert lost == 0 or (name == "int8" and 0 < lost < 300)
    values, bits, fixed = 15_500, 124_000 / 8, 5_500
    assert sizes["raw"] > dense_bytes
    assert sizes["exact"] < 4 * values + bits + fixed
    assert sizes["bfloat16"] < 2 * values + bits + fixed
    assert sizes["int8"] < values + bits + fixed


FRESH = """
import sys, numpy as np
from jaxcompress.artifact import load
_, variables = load(sys.argv[1], abs)
np.save(sys.argv[1] + "/kernel.npy", variables["params"]["a"]["kernel"])
"""


def test_a_fresh_process_reads_the_same(tmp_path: Path, network: Any) -> None:
    pruned, small = network
    jc.save(tmp_path, pruned, small, encoding=Encoding("int8"))
    subprocess.run([sys.executable, "-c", FRESH, str(tmp_path)], check=True)
    loaded = np.load(tmp_path / "kernel.npy")
    here = jc.load(tmp_path, abs)[1]["params"]["a"]["kernel"]
    assert loaded.tobytes() == np.asarray(here).tobytes()
    kernel = np.asarray(small["params"]["a"]["kernel"])
    assert (np.abs(loaded - kernel) <= np.abs(kernel).max(axis=0) / 127 / 2 * 1.0001).all()
    # Rounding may lower a count but never raises it, so what was loaded can be saved again.
    jc.save(tmp_path, pruned, jc.load(tmp_path, abs)[1])


def test_parts_that_do_not_fit_are_one_clear_error() -> None:
    array = weights((30, 30), 0.1)
    one = encode(array, Encoding())
    assert one is not None
    broken = {**one.parts, "values": one.parts["values"][:-9]}
    for parts, shape in ((broken, array.shape), (one.parts, (30, 20))):
        with pytest.raises(ValueError, match="parts of an encoded leaf do not fit"):
            decode(one.stored, parts, shape, "float32")


BAD = {"nan": np.nan, "infinite": np.inf, "large": 3.4e38}


@pytest.mark.parametrize("values", ["bfloat16", "int8"])
def test_rounding_refuses_what_it_would_lose(tmp_path: Path, values: Any) -> None:
    variables = {name: jnp.full((2, 2), value) for name, value in BAD.items()}
    variables |= {"fine": jnp.ones((2, 2)), "bias": jnp.full(2, jnp.nan)}
    with pytest.raises(ValueError, match=f"{values} rounds finite numbers") as caught:
        jc.save(tmp_path / "new", jc.chain(), variables, encoding=Encoding(values))
    for name in BAD:
        is_lost = name != "large" or values == "bfloat16"
        assert (f"{name} holds numbers that are" in str(caught.value)) == is_lost
    assert "fine" not in str(caught.value) and "bias" not in str(caught.value)
    assert not (tmp_path / "new").exists()
    jc.save(tmp_path, jc.chain(), variables, encoding=Encoding())
    assert np.isnan(jc.load(tmp_path, abs)[1]["nan"]).all()


def test_rounding_refuses_a_cast_that_overflows(tmp_path: Path) -> None:
    with jax.enable_x64(True):
        wide = {"wide": jnp.full((2, 2), 1e300, jnp.float64)}
        for values in ("bfloat16", "int8"):
            with pytest.raises(ValueError, match="wide holds numbers that are beyond the range"):
                jc.save(tmp_path, jc.chain(), wide, encoding=Encoding(values))  # type: ignore[arg-type]


def test_the_tiniest_and_the_largest_floats_stay_within_the_bound() -> None:
    tiny = np.finfo(np.float32).smallest_subnormal
    for factor in (1, 3, 100, 189, 190, 1000):
        array = (np.linspace(-factor, factor, 64).reshape(8, 8) * tiny).astype(np.float32)
        one = encode(array, Encoding("int8"))
        assert one is not None
        back = decode(*one, array.shape, "float32")
        assert (np.abs(back - array) <= max(factor / 127 / 2, 1) * tiny).all()
    for dtype in (np.float32, np.float16):
        array = np.full((2, 2), np.finfo(dtype).max)
        one = encode(array, Encoding("int8"))
        assert one is not None
        back = decode(*one, array.shape, array.dtype.name)
        assert np.isfinite(back).all() and np.allclose(back / array, 1, rtol=1e-3)
