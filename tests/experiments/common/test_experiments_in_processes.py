"""Two processes of four devices end as one of eight does, and the first alone writes files."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress import models
from jaxcompress.annotations import Json
from tests.experiments.common.streaming.jpegs import write_jpegs
from tests.processes import outputs_of_two

COUNTED = ("name", "num_params", "num_nonzero", "flops", "count")


def run_both(module: str, words: str, folders: tuple[Path, Path]) -> None:
    """Run a command in one process, in the first folder, and in two, in the second."""
    one, two = folders
    arguments = (module, *words.split(), "--workdir", str(two))
    outputs_of_two("tests.experiments.common.commanded", *arguments, devices=4, seconds=600)
    command = importlib.import_module(module).COMMAND
    command([*words.split(), "--workdir", str(one)])
    assert names_in(one) == names_in(two)


def names_in(folder: Path) -> list[str]:
    """Name the files and folders of a run, without what checkpoints are made of."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    # Digests in names are of numbers, which differ in their last bits.
    named = (re.sub("-[0-9a-f]{16}", "", name) for name in names)
    return sorted(name for name in named if not re.search("/state/|orbax", name))


def check_rows(folders: tuple[Path, Path], *same: str, images: int = 0, report: str = "") -> Json:
    """Check that rows count the same, and are as accurate; return those of one process."""
    rows = [json.loads((d / report / "report.json").read_text())["rows"] for d in folders]
    for alone, both in zip(*rows, strict=True):
        names = [name for name in (*COUNTED, *same) if name in alone]
        assert {n: alone[n] for n in names} == {n: both[n] for n in names}
        # One image may lie on the line between two classes.
        assert both["accuracy"] == pytest.approx(alone["accuracy"], abs=1.5 / max(images, 1))
    return rows[0]


def check_artifacts(folders: tuple[Path, Path], *names: str, tolerance: float = 1e-5) -> None:
    """Check that both hold the same networks, but for the order of sums."""
    for name in names:
        alone, both = (jc.load(folder / name, lambda tree: tree)[1] for folder in folders)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance), alone, both)


def save_network(folder: Path, shape: tuple[int, ...] = (1, 8, 8, 1), **options: int) -> None:
    """Save a ResNet-8, by default for digits, with random weights."""
    options = {"num_classes": 10, **options}
    module = models.build("resnet8", **options)
    variables = models.initialize(module, jax.random.key(0), shape)
    jc.save(folder, jc.chain(), variables, network=("resnet8", options))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Of one process, and of two."""
    return tmp_path / "one", tmp_path / "two"


Folders = tuple[Path, Path]
LIMITED = (
    "digits --network resnet8 --network-config width 2 --features stage3_block0 --method logits "
    "--importance magnitude --teacher-epochs 1 --student-epochs 1 --train-images 128 "
    "--test-images 64 --statistics-images 128 --batch-size 64"
)
RANKS = (
    "digits --network resnet8 --flops 0.6 --methods sensitivity --factors weighted --final 0.5 "
    # Other factors amplify rounding, where a cut goes between values that are nearly equal.
    "--final-factors weights --covariance-images 64 "
    "--statistics-images 64 --batch-size 64"
)

SLIMNETS = "smoke --rows one-shot-0.4"
COMPRESS = (
    "--data digits --train-images 128 --test-images 64 --epochs 1 --optimizer sgd --batch-size 64 "
    "--stages prune sparse distil --budget flops=0.6 bytes=0.1 --scoring.rounds 1 "
    "--scoring.steps 1 --scoring.examples 16 --scoring.looked-at 64 "
    "--model tests/experiments/compress/own_linen.py:make_wide"
)
TRANSFORMER = (
    "language --ways sparse --length 32 --looked-at 64 --training.steps 2 --training.batch-size 8 "
    "--training.rate 1e-4 --recovery.steps 2 --recovery.batch-size 8 --recovery.rate 1e-4"
)
COMBINED = (
    "--network resnet8 --dataset digits --ways sparse --bytes 0.25 --flops "
    "--seeds 0 --looks.rounds 1 --looks.again 1 --looks.covariances 16 --looks.statistics 16 "
    "--looks.held 32 --recovery.epochs 1 --recovery.train-images 32 --recovery.batch-size 16 "
    "--rates"
)
IMAGENET = (
    "resnet50 --network resnet8 --network-config width 4 --dtype float32 --dataset folder "
    "--image-size 16 --flops 0.6 --multiple-of 1 --scoring.rounds 1 --scoring.masked-images 8 "
    "--scoring.steps 0 --scoring.examples 8 --scoring.compensated-images 8 --threads 1 "
    "--scoring.statistics-images 8 --top-k 2 --epochs 1 --warmup-epochs 0 --batch-size 8 --ema 0.5 "
    "--save-steps 1"
)


def test_limited_resources(folders: Folders) -> None:
    run_both("experiments.limited_resources.__main__", LIMITED, folders)
    with np.load(folders[0] / "keep.npz") as alone, np.load(folders[1] / "keep.npz") as both:
        assert {n: x.tolist() for n, x in alone.items()} == {n: x.tolist() for n, x in both.items()}
    check_rows(folders, images=64, report="logits")
    check_artifacts(folders, *(f"logits/artifacts/{n}" for n in ("teacher", "pruned", "student")))


def test_ranks(folders: Folders) -> None:
    for folder in folders:  # it is not trained first: many steps amplify the order of sums
        save_network(folder / "network")
    run_both("experiments.ranks.__main__", RANKS, folders)
    rows = check_rows(folders, "ranks", "enc_ratio", images=360)
    assert sum("ranks" in row for row in rows) == 2
    check_artifacts(folders, "dense", "0.50-re-estimated")


def test_slimnets(folders: Folders) -> None:
    run_both("experiments.slimnets.__main__", SLIMNETS, folders)
    rows = check_rows(folders, images=360, report="smoke")
    assert [row["name"] for row in rows] == ["teacher", "one-shot-0.4"]
    check_artifacts(folders, *(f"smoke/seed0/{row['name']}" for row in rows))
    masks = [jc.load(d / "smoke" / "seed0" / "one-shot-0.4")[1] for d in folders]
    kept = [jax.tree.map(lambda x: np.flatnonzero(x).tolist(), tree) for tree in masks]
    assert kept[0] == kept[1]


def test_compress(folders: Folders) -> None:
    run_both("experiments.compress.__main__", COMPRESS, folders)
    rows = check_rows(folders, images=64)
    assert [row["name"] for row in rows[:4]] == ["whole", "after prune", "after sparse", "taught"]
    stages = [sorted(d.glob("distil-*")) for d in folders]
    assert [one.name for one in stages[0]] == [one.name for one in stages[1]]
    check_artifacts(folders, stages[0][0].name)


def test_transformer(folders: Folders) -> None:
    run_both("experiments.transformer.__main__", TRANSFORMER, folders)
    rows = check_rows(folders)
    assert [row["name"] for row in rows] == ["whole", "sparse-0.7", "sparse-0.7-taught"]
    check_artifacts(folders, "sparse-0.7", "sparse-0.7-taught")


def test_combined(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("of the small network")
    files = f"--weights {tmp_path / 'weights'} --data-dir {tmp_path}"
    run_both("tests.experiments.combined.little", f"{COMBINED} {files}", folders)
    rows = check_rows(folders, "rate", images=40)
    assert [row.get("way") for row in rows] == [None, "sparse", "sparse"]
    # Some number may lie on the line between two codes of int8.
    check_artifacts(folders, "sparse-bytes0.25-seed0", tolerance=1e-2)


def test_imagenet(folders: Folders, tmp_path: Path) -> None:
    save_network(tmp_path / "weights", (1, 16, 16, 3), num_classes=4, width=4)
    images = write_jpegs(tmp_path / "jpegs", classes=4, each=8)
    files = f"--weights {tmp_path / 'weights'} --data-dir {images}"
    run_both("experiments.imagenet.__main__", f"{IMAGENET} {files}", folders)
    rows = check_rows(folders, images=16)
    assert [row["name"] for row in rows] == ["teacher", "pruned", "student"]
    check_artifacts(folders, "gates", "pruned", "student")
