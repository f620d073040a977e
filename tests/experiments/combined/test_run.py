"""Methods alone and in sequence: budgets are met, stages resume, rows tell what gains what."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxcompress as jc
from experiments.combined import run, settings
from experiments.combined.checks import check, points
from experiments.combined.making import Making
from experiments.combined.methods import METHODS
from experiments.combined.rows import gains, marked
from experiments.combined.settings import WAYS, Config, Looks, Target, Way, steps_of
from experiments.combined.ways import SPLITS, fitted_share, shares_of
from experiments.common import report
from experiments.common.report import Row
from experiments.common.stages import Stages
from experiments.common.tuning import Tuning
from jaxcompress import parallel
from tests.experiments.combined import little

LITTLE: tuple[Way, ...] = ("prune-sparse",)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Name files that are there, and read digits and a small network in their place."""
    (tmp_path / "weights").write_text("of the fixture")
    known, one = little.original(), parallel.mesh(jax.devices()[:1])
    monkeypatch.setattr(parallel, "mesh", lambda: one)
    monkeypatch.setattr(run, "load", lambda *_: known)
    return Config(
        weights=tmp_path / "weights",
        data_dir=tmp_path,
        network="resnet8",
        dataset="digits",
        ways=LITTLE,
        bytes=(0.32,),
        flops=(),
        seeds=(0,),
        looks=Looks(1, 1, covariances=16, statistics=16, held=32),
        recovery=Tuning(epochs=1, train_images=32, batch_size=16, distillation=1.0),
        rates=(0.001,),
        workdir=tmp_path / "run",
    )


def making_of(config: Config) -> Making:
    return Making(config, *run.load(), 0)  # type: ignore[call-arg]


def forbidden(*_: Any) -> NoReturn:
    raise AssertionError("this was done before")


def test_budgets_are_met_and_stages_resume(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SPLITS", {2: ((0.5, 0.5),)})
    made = run.main(config)
    whole, *others = made
    assert [row.name for row in others] == [
        f"{way}, bytes 0.32, {step}" for step in run.STEPS for way in LITTLE
    ]
    assert others[0].bytes and 0.3 < others[0].bytes / whole.extra["float32_bytes"] <= 0.32
    for row in others:
        assert row.num_nonzero and row.num_params and whole.num_params
        assert 0 < row.num_nonzero < row.num_params < whole.num_params
    report.validate(json.loads((config.workdir / "report.json").read_text()))
    assert (config.workdir / "combined.png").stat().st_size > 1000
    function, variables = jc.load(config.workdir / "prune-sparse-bytes0.32-seed0")
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == others[1].num_params
    assert function(variables, np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 10)

    monkeypatch.setattr(run, "point", forbidden)
    monkeypatch.setattr(run, "network_at", forbidden)
    assert [row.to_json() for row in run.main(config)] == [row.to_json() for row in made]


def test_the_split_of_the_least_distance_is_chosen_once(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    making, way, target = making_of(config), LITTLE[0], Target("bytes", 0.32)
    tried: list[Any] = []

    def network_at(*arguments: Any, fits: bool) -> Any:
        assert not fits
        tried.append(arguments[-1])
        return tried[-1]

    monkeypatch.setattr(run, "network_at", network_at)
    monkeypatch.setattr(Making, "distance", lambda _, parts: {0.3: 2.0, 0.7: 1.0}[parts[0]])
    for _ in range(2):
        with Stages(config.workdir, {}, Console(quiet=True)) as stages:
            assert run.split_of(making, way, target, stages) == (0.7, 0.3)
            assert run.split_of(making, "prune", target, stages) == (1.0,)
    assert tried == list(SPLITS[2])


def test_channels_and_factors_meet_shares_of_flops_in_both_orders(config: Config) -> None:
    making = making_of(config)
    for way in ("prune-low_rank", "low_rank-prune"):
        steps = steps_of(way)
        middle = METHODS[steps[0]](making, making.whole, "flops")(0.8)
        last = METHODS[steps[1]](making, middle, "flops")(0.6)
        flops = [making.traced(network).flops / making.graph.flops for network in (middle, last)]
        assert 0.7 < flops[0] <= 0.8 and 0.5 < flops[1] <= 0.6
        kinds = [step["kind"] for step in last.compression.spec["steps"]]
        assert kinds == [{"prune": "shrink", "low_rank": "factorize"}[step] for step in steps]


def test_zeros_are_held_while_a_network_learns() -> None:
    variables = {"params": {"kernel": np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)}}

    def train_apply(values: Any, images: Any) -> Any:
        return images @ values["params"]["kernel"], {}

    loss = lambda values: (run.held(train_apply, variables)(values, np.ones((3, 2)))[0] ** 2).sum()  # noqa: E731
    gradient = jax.grad(loss)(variables)["params"]["kernel"]
    assert ((gradient != 0) == (variables["params"]["kernel"] != 0)).all()


def test_masks_come_last_and_splits_go_the_whole_way() -> None:
    assert all("sparse" not in steps_of(way)[:-1] for way in WAYS)
    assert {len(steps_of(way)) for way in WAYS} == SPLITS.keys()
    for count, splits in SPLITS.items():
        assert all(len(parts) == count and sum(parts) == pytest.approx(1) for parts in splits)
        assert all(shares_of(0.3, parts)[-1] == pytest.approx(0.3) for parts in splits)


def test_the_largest_share_that_fits_is_found() -> None:
    for most in (200, 500, 900):
        share = fitted_share(lambda share: round(100 + 950 * share**1.5), most, 0.5)
        assert 0.97 * most <= 100 + 950 * share**1.5 <= most + 1
    stairs = fitted_share(lambda share: 100 * int(10 * share), 450, 0.9)
    assert 0.4 <= stairs < 0.5
    with pytest.raises(ValueError, match="left 600 of 500 at least"):
        fitted_share(lambda _: 600, 500, 0.9)


def rows_of(figures: dict[str, tuple[int, list[float]]]) -> list[Row]:
    place = {"kind": "bytes", "share": 0.1, "step": "taught"}
    return [
        Row(
            way,
            accuracy=float(np.mean(accuracies)),
            bytes=size,
            flops=1.0,
            extra={**place, "way": way, "accuracies": accuracies},
        )
        for way, (size, accuracies) in figures.items()
    ]


def test_dominated_points_and_gains_are_told() -> None:
    rows = rows_of(
        {
            "prune": (9, [0.5, 0.6]),
            "sparse": (10, [0.8, 0.7]),
            "low_rank": (10, [0.9, 0.9]),
            "prune-sparse": (10, [0.9, 0.7]),
            "prune-low_rank-sparse": (11, [0.9, 0.9]),
        }
    )
    told = {row.name: row.extra for row in gains(marked(rows))}
    above = {way: extra["dominated_by"]["bytes"] for way, extra in told.items()}
    assert above == {
        "prune": None,
        "sparse": "low_rank",
        "low_rank": None,
        "prune-sparse": "low_rank",
        "prune-low_rank-sparse": "low_rank",
    }
    assert "gains" not in told["sparse"]
    assert told["prune-sparse"]["best_part"] == "sparse"
    assert told["prune-sparse"]["gains"] == pytest.approx([0.1, 0.0])
    assert told["prune-low_rank-sparse"]["gains"] == pytest.approx([0.0, 0.0])
    without = gains(rows_of({"sparse": (1, [0.5]), "prune-sparse": (1, [0.6])}))
    assert "gains" not in without[1].extra


def test_what_cannot_be_meant_is_refused_all_at_once(tmp_path: Path) -> None:
    wrong = dataclasses.replace(
        Config(),
        weights=tmp_path / "nothing",
        network="resnet21",
        ways=("prune", "prune", "quantize"),  # type: ignore[arg-type]
        bytes=(0.0, 1.5),
        seeds=(),
        looks=Looks(rounds=0),
        recovery=Tuning(rate=-1.0),
    )
    with pytest.raises(ValueError, match="these settings cannot be meant") as caught:
        run.main(wrong)
    for part in (
        "there is nothing at",
        "no folder is named",
        "there is no 'resnet21'",
        "there is no 'quantize'",
        "'prune' is named twice",
        "but is 0.0",
        "but is 1.5",
        "there is none; say for example 0 1 2",
        "looks.rounds must be",
        "recovery.rate must be",
    ):
        assert part in str(caught.value), part
    only_zeros = dataclasses.replace(Config(), ways=("sparse",), bytes=(), flops=(0.5,))
    with pytest.raises(ValueError, match="zeros save no FLOPs"):
        check(only_zeros)


def test_more_than_int8_alone_is_asked_for(config: Config) -> None:
    whole = dataclasses.replace(config, bytes=(0.9,), ways=("sparse",))
    with pytest.raises(ValueError, match="more than int8 alone"):
        run.main(whole)


def test_every_preset_is_whole() -> None:
    for _, preset in settings.PRESETS.values():
        assert {way for way, _ in points(preset)} == set(WAYS)
        assert Target("flops", 0.5) in {target for _, target in points(preset)}


@pytest.mark.parametrize(("rate", "best"), [(10.0, 0.0), (1e-3, 1e-3)])
def test_only_a_lesson_that_helps_is_taken(config: Config, rate: float, best: float) -> None:
    recovery = dataclasses.replace(config.recovery, rate=30.0)
    making = making_of(dataclasses.replace(config, recovery=recovery, rates=(rate,)))
    halved = jax.tree.map(lambda leaf: leaf * 0.5, making.whole.variables)
    network = making.whole._replace(variables=halved) if best else making.renewed(making.whole)
    chosen, taught = run.best_taught(making, network, keeps_zeros=False)
    assert chosen == best and (making.distance(taught) < making.distance(network)) == bool(best)
