"""What cannot be meant is refused before anything long, by rule, fact, place and remedy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.compress import run
from experiments.compress.files import arrays_of
from experiments.compress.settings import Config, Scoring
from tests.experiments.compress.conftest import HERE, quick

OWN = HERE / "own_functions.py"
SETTINGS: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"batch_size": 0, "budget": ("flops=1.5", "flop=0.5")},
        ["batch_size", "flops=1.5", "'flops'"],
    ),
    ({"epochs": 0}, ["epochs must be a whole number of at least 1, but is 0"]),
    ({"budget": ("flops",)}, ["'flops' is no kind=share"]),
    ({"budget": ("flops=0.5", "flops=0.4")}, ["flops is limited twice"]),
    ({"budget": ("flops=nan",)}, ["a share is a number in (0, 1], but 'flops=nan'"]),
    ({"budget": ()}, ["nothing is limited"]),
    ({"stages": ("prun",)}, ["there is no 'prun'; did you mean 'prune'?"]),
    ({"stages": ("prune", "prune")}, ["prune is done once"]),
    ({"stages": ("distil",)}, ["prune or low_rank has to meet flops=0.5"]),
    ({"stages": ("prune", "sparse")}, ["--sparsity 0.5"]),
    (
        {"stages": ("quantize", "prune", "sparse", "distil")},
        ["prune takes floats, but comes after quantize", "sparse takes floats"],
    ),
    ({"exports": ("onxx",)}, ["there is no 'onxx'; did you mean 'onnx'?"]),
    ({"sparsity": 1.0}, ["sparsity must be a finite number of at least 0 and below 1"]),
    (
        {"budget": ("latency=0.5",), "stages": ("prune", "low_rank")},
        ["latency is met by the stage prune alone"],
    ),
    (
        {"latency_table": HERE / "nothing.json"},
        ["add for example latency=0.5", "nothing.json cannot be read"],
    ),
    ({"model": "resnet-20"}, ["did you mean 'resnet20'?"]),
    ({"weights": Path("nothing.safetensors")}, ["there is nothing at nothing.safetensors"]),
    ({"std": (0.0,), "scoring": Scoring(rounds=0)}, ["std must be a finite", "scoring.rounds"]),
    ({"labels": "test", "test_share": 1.0}, ["labels=test keeps them", "test_share must be"]),
    ({"data": "digit"}, ["'digit' is neither", "did you mean 'digits'?"]),
    ({"data": "missing.npz"}, ["there is no file missing.npz"]),
    ({"model": "no_such_module:make"}, ["there is no module 'no_such_module'"]),
    ({"model": "own_function.py:make"}, ["there is no file own_function.py"]),
    ({"model": f"{OWN}:mak"}, ["has no function 'mak'; did you mean 'make'?"]),
    ({"model": f"{OWN}:wrong"}, ["a torch.nn.Module", "but it returned int"]),
    ({"model": f"{OWN}:failing"}, ["KeyError: 'weights'", "own_functions.py:", '["weights"]']),
    ({"model": f"{OWN}:make", "data": f"{OWN}:other_batches"}, ["['imag']", "mean 'image'?"]),
    ({"model": f"{OWN}:make", "data": f"{OWN}:breaking_batches"}, ["OSError: the disk is gone"]),
    ({"model": f"{OWN}:make"}, ["does not, of shape [8, 8, 1]: its example is [6]"]),
    (
        {"model": f"{OWN}:make", "data": f"{OWN}:batches", "outputs": "values"}
        | {"protect": ("*/nothing",)},
        ["protect names leaves", "['*/nothing'] match none"],
    ),
    (
        {"model": f"{OWN}:make", "data": f"{OWN}:batches", "budget": ("flops=0.001",)},
        ["the smallest reachable is", "or add the stage low_rank"],
    ),
    ({"data": f"{OWN}:batches"}, ["num_classes: resnet8", "--num-classes 10"]),
]


@pytest.mark.parametrize(("changes", "said"), SETTINGS, ids=[s[1][0][:40] for s in SETTINGS])
def test_settings_are_refused(changes: dict[str, Any], said: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        run.main(dataclasses.replace(Config(workdir=tmp_path / "run"), **changes))
    for part in said:
        assert part in str(error.value)
    assert not (tmp_path / "run").exists()


IMAGES = np.zeros((20, 8, 8, 1), np.uint8)
ARRAYS: list[tuple[dict[str, Any], str]] = [
    ({"image": IMAGES}, "did you mean 'images'?"),
    ({"labels": np.zeros(20, int)}, "one array holds the inputs"),
    ({"images": IMAGES, "labels": np.zeros(19, int)}, "20 training examples have labels [19]"),
    ({"images": IMAGES, "labels": np.full(20, -1)}, "whole numbers from 0 on"),
    ({"images": IMAGES, "labels": np.ones(20)}, "whole numbers from 0 on"),
    ({"images": IMAGES[:3]}, "at least 10 training examples"),
    ({"images": np.full((20, 3), np.nan)}, "20 training examples hold NaN"),
    ({"images": np.array([None] * 20)}, "holds Python objects"),
    ({"images": IMAGES, "test_images": np.zeros((5, 4, 4, 1), np.uint8)}, "splits are alike"),
    ({"images": IMAGES, "test_labels": np.zeros(5, int)}, "belong to 'test_images'"),
]


@pytest.mark.parametrize(("arrays", "said"), ARRAYS, ids=[said for _, said in ARRAYS])
def test_arrays_are_refused(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError) as error:
        run.main(quick(tmp_path / "run", data=str(tmp_path / "mine.npz")))
    assert said in str(error.value)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=r"mine\.npz is damaged"):
        run.main(quick(tmp_path / "run", data=str(tmp_path / "mine.npz")))


def test_arrays_go_by_the_names_of_others_too(tmp_path: Path) -> None:
    keras: dict[str, Any] = {
        f"{name}_{part}": np.arange(3) for name in "xy" for part in ("train", "test")
    }
    np.savez(tmp_path / "keras.npz", **keras)
    splits = arrays_of(tmp_path / "keras.npz")
    assert [sorted(part or {}) for part in splits[:2]] == 2 * [["image", "label"]]
    np.savez(tmp_path / "twice.npz", x_train=np.arange(3), inputs=np.arange(3))
    with pytest.raises(ValueError, match="'x_train' and 'inputs' are the same; keep one"):
        arrays_of(tmp_path / "twice.npz")
