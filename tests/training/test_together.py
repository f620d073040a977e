"""Two processes with parts of one data set find what one process finds with all of it."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcompress import parallel, training
from jaxcompress.graph import trace
from jaxcompress.graph.budget import Budget
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import importance
from jaxcompress.prune.learned import learn_gates
from tests.processes import outputs_of_two
from tests.training.together import IMAGES, LABELS, VARIABLES, WIDE, apply, compressed, loss


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = str(tmp_path_factory.mktemp("together") / "artifact")
    return [
        json.loads(text.strip().splitlines()[-1])
        for text in outputs_of_two("tests.training.together", folder, devices=2)
    ]


def test_unequal_parts_are_evaluated_together(said: list[Any]) -> None:
    mesh = parallel.mesh(jax.devices()[:1])
    whole = training.evaluate(apply, VARIABLES, IMAGES, LABELS, batch_size=7, mesh=mesh)
    assert said[0]["evaluated"] == said[1]["evaluated"] == pytest.approx(whole, rel=1e-5)


def test_both_refuse_labels_that_one_has(said: list[Any]) -> None:
    assert "parts of the processes [1] some are not" in said[0]["refused"]
    assert "4 of 4 are not: [7, 8, 9]" in said[1]["refused"]


def test_variables_split_over_processes_are_compressed_as_whole_ones(said: list[Any]) -> None:
    expected, _ = flatten_with_paths({**compressed(WIDE), "saved": WIDE})
    for one in said:
        assert one["split"].keys() == expected.keys()
        for path, (values, part) in one["split"].items():
            np.testing.assert_allclose(values, expected[path], rtol=1e-5, atol=1e-5, err_msg=path)
            assert part == 1 / 4, path


def test_keys_and_arrays_of_one_process_are_copied_to_all(said: list[Any]) -> None:
    for one in said:
        assert one["replicated"] == dict.fromkeys(("key", "local", "everywhere", "one"), True)


def test_scores_of_batches_that_both_hold(said: list[Any]) -> None:
    graph = trace(apply, VARIABLES, IMAGES)
    labels = jnp.arange(8) // 4
    batches: Any = {
        "image": jnp.stack([IMAGES[:8], IMAGES[8:16]]),
        "label": jnp.stack([labels] * 2),
    }
    support = jax.tree.map(lambda leaf: leaf[:, None], batches)
    options: Any = {"query": batches, "support": support, "optimizer": optax.sgd(0.1)}
    scores = {"a[1]": np.arange(1.0, 4.0)}
    key = jax.random.key(0)
    expected = {
        "taylor": importance.taylor(graph, loss, VARIABLES, batches),
        "fisher": importance.fisher(graph, loss, VARIABLES, batches, key=key),
        "meta": importance.meta(graph, loss, VARIABLES, support, batches),
        "learned": learn_gates(graph, loss, VARIABLES, scores, Budget(params=0.6), **options),
    }
    for one in said:
        for name, result in expected.items():
            np.testing.assert_allclose(one["scored"][name], result["a[1]"], rtol=2e-4, atol=1e-6)
