"""An artifact with a program loads without the model's code, and is checked as all of it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes

from jaxcompress.artifact import Encoding, export_stablehlo, inspect, load, save
from jaxcompress.compression import chain
from tests.artifact.forged import content_of, with_data, write
from tests.artifact.small import Small, assert_same, data_file, mlp

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)


@pytest.fixture(scope="module")
def program(plain: Small) -> bytes:
    return export_stablehlo(plain.prune.function(mlp), plain.small, X)


@pytest.fixture
def carrying(tmp_path: Path, plain: Small, program: bytes) -> Path:
    save(tmp_path / "artifact", plain.prune, plain.small, program=program)
    return tmp_path / "artifact"


def test_it_loads_in_a_fresh_process_without_the_function(carrying: Path, plain: Small) -> None:
    np.save(carrying.parent / "x.npy", X)
    code = (
        "import sys, numpy as np, jaxcompress as jc\n"
        "function, variables = jc.load(sys.argv[1] + '/artifact')\n"
        "x = np.load(sys.argv[1] + '/x.npy')\n"
        "np.save(sys.argv[1] + '/y.npy', function(variables, x))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(carrying.parent)], check=True)
    expected = plain.prune.function(mlp)(plain.small, X)
    np.testing.assert_allclose(np.load(carrying.parent / "y.npy"), expected, atol=1e-6)
    assert float(jnp.abs(expected).max()) > 0.1


def test_variables_are_as_without_a_program(carrying: Path, plain: Small, program: bytes) -> None:
    function, variables = load(carrying, like=plain.variables)
    assert_same(variables, plain.small)
    assert function(variables, X[:1]).shape == (1, 2)
    assert inspect(carrying)["program"] == {
        "size": len(program),
        "platforms": ["cpu", "cuda", "tpu"],
    }


def test_a_given_function_goes_before_the_program(carrying: Path, plain: Small) -> None:
    def doubled(variables: Any, x: jax.Array) -> jax.Array:
        return 2 * mlp(variables, x)

    function, variables = load(carrying, doubled)
    expected = 2 * plain.prune.function(mlp)(plain.small, X)
    np.testing.assert_allclose(function(variables, X), expected, rtol=1e-5)


def test_rounded_variables_are_the_programs(carrying: Path, plain: Small, program: bytes) -> None:
    save(carrying, plain.prune, plain.small, program=program, encoding=Encoding("int8"))
    function, rounded = load(carrying)
    expected = plain.prune.function(mlp)(rounded, X)
    np.testing.assert_allclose(function(rounded, X), expected, atol=1e-4)
    assert np.all(np.abs(expected - plain.prune.function(mlp)(plain.small, X)) <= stated(plain))
    assert_same(function(rounded, X) == function(plain.small, X), np.zeros((4, 2), bool))


def stated(plain: Small) -> np.ndarray:
    """Bound outputs by the error that int8 states: half a step of each output's largest / 127."""
    first, second = (np.abs(np.asarray(plain.small[name]["kernel"])) for name in "ab")
    steps = [kernel.max(0) / 127 / 2 for kernel in (first, second)]
    hidden = np.abs(X).sum(1, keepdims=True) * steps[0]  # tanh changes no more than its input
    bound: np.ndarray = hidden @ (second + steps[1]) + len(second) * steps[1] + 1e-5
    return bound


def test_a_program_of_other_variables_is_not_saved(tmp_path: Path, plain: Small) -> None:
    dense = export_stablehlo(mlp, plain.variables, X)
    with pytest.raises(ValueError, match=r"a/kernel: float32\[3, 3\] instead of float32\[3, 6\]"):
        save(tmp_path / "artifact", plain.prune, plain.small, program=dense)
    with pytest.raises(ValueError, match="must be what `export_stablehlo` returned"):
        save(tmp_path / "artifact", plain.prune, plain.small, program=b"text")
    assert not (tmp_path / "artifact").exists()


def test_a_leaf_of_the_programs_name_is_refused(tmp_path: Path) -> None:
    variables = {":program": jnp.ones(3)}
    program = export_stablehlo(lambda variables, x: x * variables[":program"], variables, X)
    with pytest.raises(ValueError, match="another leaf has tensors of the names"):
        save(tmp_path / "artifact", chain(), variables, program=program)


def test_only_artifacts_with_a_program_have_the_new_format(carrying: Path, plain: Small) -> None:
    assert json.loads((carrying / "structure.json").read_text())["format"] == 3
    save(carrying, plain.prune, plain.small)
    content = json.loads((carrying / "structure.json").read_text())
    assert content["format"] == 1 and "program" not in content


def test_a_changed_program_is_refused(carrying: Path) -> None:
    file = data_file(carrying)
    content = file.read_bytes()
    at = len(content) - 100  # bytes come last: behind all numbers lies the program
    file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(ValueError, match="sha256"):
        load(carrying)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"size": 5, "platforms": ["cpu"]}, r":program: U8 \[\d+\] instead of"),
        ({"size": -1, "platforms": ["cpu"]}, "program: size is -1"),
        ({"size": True, "platforms": ["cpu"]}, "program: size is True"),
        ({"size": 5, "platforms": "cpu"}, "program: platforms is 'cpu'"),
        ({"size": 5}, "program: platforms is missing"),
        ({"size": 5, "platforms": [], "path": "/etc/passwd"}, r"program: unknown \['path'\]"),
        ([], "program: a list"),
        (None, ":program: unexpected"),
    ],
)
def test_hostile_entries_are_refused_by_name(carrying: Path, entry: Any, said: str) -> None:
    content = {**content_of(carrying), "program": entry}
    write(carrying, content, data_file(carrying).read_bytes())
    with pytest.raises(ValueError, match=said):
        load(carrying, mlp)


def test_signed_anew_it_is_refused_by_what_it_is(carrying: Path, plain: Small) -> None:
    dense = np.frombuffer(export_stablehlo(mlp, plain.variables, X), np.uint8)
    one_platform = export_stablehlo(plain.prune.function(mlp), plain.small, X, platforms=["cpu"])
    for forged, said in [
        (np.frombuffer(b"nothing at all", np.uint8), "cannot be read.*pass `apply`"),
        (dense, r"a/kernel: float32\[3, 3\] instead of float32\[3, 6\]"),
        (np.frombuffer(one_platform, np.uint8), r"the program is for \['cpu'\], other than"),
    ]:
        tensors = {**load_file(data_file(carrying)), ":program": forged}
        content, data = with_data(content_of(carrying), to_bytes(tensors))
        content["program"] = {**content["program"], "size": forged.size}
        folder = carrying.parent / f"forged{forged.size}"
        write(folder, content, data)
        with pytest.raises(ValueError, match=said):
            load(folder)
        assert load(folder, mlp)[0] is not None
