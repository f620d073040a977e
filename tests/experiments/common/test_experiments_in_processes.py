"""Two processes of four devices end as one of eight does, and the first alone writes files."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
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


Folders = tuple[Path, Path]
"""Of one process, and of two."""


def prepare(folder: Path) -> dict[str, str]:
    """Make the files that experiments read; return what their commands say of them."""
    # It is not trained first: many steps amplify the order of sums.
    for place in ("ranks-one", "ranks-two"):
        save_network(folder / place / "network")
    (folder / "combined-weights").write_text("of the small network")
    weights = folder / "imagenet-weights"
    save_network(weights, (1, 16, 16, 3), num_classes=4, width=4)
    images = write_jpegs(folder / "jpegs", classes=4, each=8)
    return {
        "combined": f"--weights {folder / 'combined-weights'} --data-dir {folder}",
        "imagenet": f"--weights {weights} --data-dir {images}",
    }


def check_limited_resources(places: Folders) -> None:
    one, two = places
    with np.load(one / "keep.npz") as alone, np.load(two / "keep.npz") as both:
        assert {n: x.tolist() for n, x in alone.items()} == {n: x.tolist() for n, x in both.items()}
    check_rows(places, images=64, report="logits")
    check_artifacts(
        (one, two), *(f"logits/artifacts/{n}" for n in ("teacher", "pruned", "student"))
    )


def check_ranks(places: Folders) -> None:
    rows = check_rows(places, "ranks", "enc_ratio", images=360)
    assert sum("ranks" in row for row in rows) == 2
    check_artifacts(places, "dense", "0.50-re-estimated")


def check_slimnets(places: Folders) -> None:
    rows = check_rows(places, images=360, report="smoke")
    assert [row["name"] for row in rows] == ["teacher", "one-shot-0.4"]
    check_artifacts(places, *(f"smoke/seed0/{row['name']}" for row in rows))
    masks = [jc.load(d / "smoke" / "seed0" / "one-shot-0.4")[1] for d in places]
    kept = [jax.tree.map(lambda x: np.flatnonzero(x).tolist(), tree) for tree in masks]
    assert kept[0] == kept[1]


def check_compress(places: Folders) -> None:
    rows = check_rows(places, images=64)
    assert [row["name"] for row in rows[:4]] == ["whole", "after prune", "after sparse", "taught"]
    stages = [sorted(d.glob("distil-*")) for d in places]
    assert [one.name for one in stages[0]] == [one.name for one in stages[1]]
    check_artifacts(places, stages[0][0].name)


def check_transformer(places: Folders) -> None:
    rows = check_rows(places)
    assert [row["name"] for row in rows] == ["whole", "sparse-0.7", "sparse-0.7-taught"]
    check_artifacts(places, "sparse-0.7", "sparse-0.7-taught")


def check_combined(places: Folders) -> None:
    rows = check_rows(places, "rate", images=40)
    assert [row.get("way") for row in rows] == [None, "sparse", "sparse"]
    # Some number may lie on the line between two codes of int8.
    check_artifacts(places, "sparse-bytes0.25-seed0", tolerance=1e-2)


def check_imagenet(places: Folders) -> None:
    rows = check_rows(places, images=16)
    assert [row["name"] for row in rows] == ["teacher", "pruned", "student"]
    check_artifacts(places, "gates", "pruned", "student")


EXPERIMENTS: dict[str, tuple[str, str, Callable[[Folders], None]]] = {
    "limited_resources": ("experiments.limited_resources", LIMITED, check_limited_resources),
    "ranks": ("experiments.ranks", RANKS, check_ranks),
    "slimnets": ("experiments.slimnets", SLIMNETS, check_slimnets),
    "compress": ("experiments.compress", COMPRESS, check_compress),
    "transformer": ("experiments.transformer", TRANSFORMER, check_transformer),
    "combined": ("tests.experiments.combined.little", COMBINED, check_combined),
    "imagenet": ("experiments.imagenet", IMAGENET, check_imagenet),
}


def test_two_processes_end_as_one(tmp_path: Path) -> None:
    """One test, so that the two start once and not for every experiment."""
    files, commands = prepare(tmp_path), {}
    for name, (package, words, _) in EXPERIMENTS.items():
        module = package if package.startswith("tests") else f"{package}.__main__"
        commands[name] = [module, *words.split(), *files.get(name, "").split(), "--workdir"]
    listed = tmp_path / "commands.json"
    listed.write_text(json.dumps([[*c, str(tmp_path / f"{n}-two")] for n, c in commands.items()]))
    outputs_of_two("tests.experiments.common.commanded", str(listed), devices=4, seconds=1800)
    for name, (module, *arguments) in commands.items():
        places = tmp_path / f"{name}-one", tmp_path / f"{name}-two"
        importlib.import_module(module).COMMAND([*arguments, str(places[0])])
        assert names_in(places[0]) == names_in(places[1]), name
        EXPERIMENTS[name][2](places)
