"""The experiment on transformers: every way meets its budget, and what learns is what was saved."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from experiments.common import report
from experiments.transformer import language, run
from experiments.transformer.sentences import compare_embeddings
from experiments.transformer.settings import PRESETS, Learning, Scoring
from experiments.transformer.task import epoch, rows
from jaxcompress import models

NUMBERS = ("params", "nonzero")


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a few lines, in a decoder of one layer."""
    net = models.Decoder(96, 8, 1, heads=2, kv_heads=2, mlp_width=16, tied=True)
    monkeypatch.setattr(language, "NETWORK", net)
    whole = language.texts(32)
    few = [{name: x[:192] for name, x in part.items()} for part in whole]
    monkeypatch.setattr(language, "texts", lambda length: few)


@pytest.mark.usefixtures("little")
def test_a_decoder_is_trained_pruned_and_taught(tmp_path: Path) -> None:
    config = dataclasses.replace(
        PRESETS["language"][1],
        ways=("prune", "sparse"),
        scoring=Scoring(rounds=1, steps=1, examples=8),
        training=Learning(4, 8, 1e-2),
        recovery=Learning(4, 8, 1e-2),
        looked_at=64,
        length=32,
        workdir=tmp_path,
    )
    made = run.main(config)
    report.validate(json.loads((tmp_path / "report.json").read_text()))
    params, nonzero = ([getattr(row, f"num_{name}") or 0 for row in made] for name in NUMBERS)
    assert [row.name for row in made[1:3]] == ["prune-0.7", "prune-0.7-taught"]
    assert params[1] <= 0.7 * params[0] and params[1:] == [params[1]] * 2 + [params[0]] * 2
    assert nonzero[4] <= nonzero[3] < nonzero[0]
    assert made[2].extra["score"] < made[1].extra["score"]
    _, variables = jc.load(tmp_path / "prune-0.7-taught", language.NETWORK.apply)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == params[2]
    again = run.main(config)
    assert [row.extra["score"] for row in again] == [row.extra["score"] for row in made]


def test_batches_hold_every_sequence_once_and_are_cut_behind_the_longest() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 100)
    mask = np.arange(64) < lengths[:, None]
    parts = list(epoch({"mask": mask}, 10, np.random.default_rng(1)))
    assert sorted(np.concatenate(parts)) == list(range(100))
    for part in parts:
        batch = rows({"mask": mask, "width": mask}, part, ["width"])
        assert batch["mask"].sum() == lengths[part].sum()
        assert batch["mask"].shape[1] - lengths[part].max() < 16
        assert batch["width"].shape[1] == 64


def test_embeddings_of_another_width_are_compared_by_their_cosines() -> None:
    wanted = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0][:4]
    turned = wanted @ np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    wide = np.pad(turned, ((0, 0), (0, 2)))
    np.testing.assert_allclose(compare_embeddings(jnp.asarray(wide), wanted), 0, atol=1e-6)
    same_width = compare_embeddings(jnp.asarray(turned), wanted)
    np.testing.assert_allclose(same_width, np.square(turned - wanted).sum(-1), rtol=1e-4)
