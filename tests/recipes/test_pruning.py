"""`recipes.prune`: the laws on its result, its promise beside raw scores, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress import recipes
from jaxcompress.annotations import Batch
from tests.recipes import networks

KEY = jax.random.key(5)
SMALL = recipes.Learned(start=recipes.Fisher(rounds=8, examples=16), steps=24, examples=40)


@pytest.fixture(scope="module", params=["depthwise", "perceptron", "attention"])
def case(request: pytest.FixtureRequest) -> networks.Case:
    return getattr(networks, request.param)()


@pytest.fixture(scope="module")
def perceptron() -> networks.Case:
    return networks.perceptron()


def shares(case: networks.Case, compression: jc.Compression) -> float:
    """Return the share of the FLOPs that is left."""
    x = case.batches[0]["image"][:1]
    small = compression.variables(case.variables)
    dense = jc.trace(case.apply, case.variables, x).flops
    return jc.trace(compression.function(case.apply), small, x).flops / dense


def test_without_labels_the_budget_is_met_and_removing_is_masking(case: networks.Case) -> None:
    compression = recipes.prune(
        case.apply,
        case.variables,
        (batch for batch in case.batches),
        jc.Budget(flops=0.6),
        key=KEY,
        train_apply=case.train_apply,
        importance=SMALL,
    )
    assert 0.4 < shares(case, compression) <= 0.6
    x = case.test["image"][:32]
    graph = jc.trace(case.apply, case.variables, x[:1])
    kept, gates = compression.spec["leaves"], {}
    for name, group in graph.groups.items():
        mask = np.ones(group.width)
        for member in group.members:
            indices = kept.get(member.path, {}).get("keep", {}).get(str(member.axis))
            if indices is not None:
                mask = np.isin(member.indices, indices).all(1).astype(float)
        gates[name] = mask
    small = compression.variables(case.variables)
    masked = jax.jit(jc.gated(graph, case.outputs))(case.variables, gates, x)
    shrunk = jax.jit(compression.function(case.outputs))(small, x)
    np.testing.assert_allclose(shrunk, masked, rtol=1e-4, atol=1e-4)
    whole = jax.jit(case.outputs)(case.variables, x)
    assert np.abs(np.asarray(shrunk) - whole).max() > 1e-3


def losses(case: networks.Case, compression: jc.Compression) -> float:
    """Return the distance from the dense network's answers on test data."""
    small, x = compression.variables(case.variables), case.test["image"]
    answers = recipes.distances.distance_of("classes")
    outputs = jax.jit(compression.function(case.outputs))(small, x)
    return float(answers(outputs, jax.jit(case.outputs)(case.variables, x)).mean())


@pytest.mark.parametrize("case", ["depthwise", "perceptron"], indirect=True)
def test_the_default_is_better_than_raw_scores(case: networks.Case) -> None:
    """At the same budget, against bare Taylor scores and bare norms."""
    x, budget = case.batches[0]["image"], jc.Budget(flops=0.4)
    graph = jc.trace(case.apply, case.variables, x[:1])
    groups = recipes.pruning.groups_of(graph, "internal")
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *case.batches)
    taylor = jc.importance.taylor(graph, case.loss, case.variables, stacked)
    norms = jc.importance.magnitude(graph, case.variables)
    raw = []
    for scores in (taylor, norms):
        keep = jc.select(graph, {name: scores[name] for name in groups}, budget)
        raw.append(losses(case, jc.shrink(graph, keep)))
    learned = recipes.prune(
        case.apply,
        case.variables,
        case.batches,
        budget,
        key=KEY,
        loss=case.loss,
        train_apply=case.train_apply,
        importance=SMALL,
    )
    assert losses(case, learned) < 0.8 * min(raw)


@pytest.mark.parametrize("count", [1, 7, 90])
def test_any_number_of_examples_will_do(perceptron: networks.Case, count: int) -> None:
    batch = jax.tree.map(lambda leaf: leaf[:count], perceptron.test)
    compression = recipes.prune(
        perceptron.apply,
        perceptron.variables,
        [batch],
        jc.Budget(flops=0.5),
        key=KEY,
        importance=recipes.Learned(start=recipes.Fisher(2, 8), steps=3, examples=16),
    )
    assert shares(perceptron, compression) <= 0.5


def test_half_precision_and_values() -> None:
    case = networks.perceptron(jnp.bfloat16)
    for distance in ("classes", "values", lambda outputs, answers: abs(outputs - answers).sum(-1)):
        compression = recipes.prune(
            case.apply,
            case.variables,
            case.batches,
            jc.Budget(params=0.5),
            key=KEY,
            distance=distance,
            importance=recipes.Learned(start=recipes.Fisher(2, 8), steps=4, examples=16),
        )
        small = compression.variables(case.variables)
        assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(small))
        outputs = compression.function(case.apply)(small, case.test["image"])
        assert np.isfinite(np.asarray(outputs, np.float32)).all()


@pytest.mark.parametrize(
    "importance",
    [
        recipes.Fisher(2, 8),
        recipes.Taylor(2, 16),
        recipes.Meta(2, 16),
        recipes.Magnitude(),
        recipes.Random(),
    ],
    ids=lambda importance: type(importance).__name__,
)
def test_every_importance_fits_budget_and_widths(
    perceptron: networks.Case, importance: recipes.Importance
) -> None:
    compression = recipes.prune(
        perceptron.apply,
        perceptron.variables,
        perceptron.batches,
        jc.Budget(flops=0.6),
        key=KEY,
        loss=perceptron.loss,
        importance=importance,
        multiple_of=4,
    )
    assert shares(perceptron, compression) <= 0.6
    small = compression.variables(perceptron.variables)
    assert small["a"].shape[1] % 4 == 0 and small["b"].shape[1] % 4 == 0


def test_given_scores_are_taken(perceptron: networks.Case) -> None:
    graph = jc.trace(perceptron.apply, perceptron.variables, perceptron.test["image"][:1])
    scores = {name: np.arange(group.width, dtype=float) for name, group in graph.groups.items()}
    budget = jc.Budget(flops=0.5)
    compression = recipes.prune(
        perceptron.apply,
        perceptron.variables,
        perceptron.batches,
        budget,
        key=KEY,
        importance=scores,
    )
    assert compression.spec == jc.shrink(graph, jc.select(graph, scores, budget)).spec


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "one batch": ({"batches": jnp.ones((3, 12))}, TypeError, r"pass \[batch\]"),
    "a mapping": ({"batches": {"image": jnp.ones((3, 12))}}, TypeError, r"pass \[batch\]"),
    "no batch": ({"batches": []}, ValueError, "holds none"),
    "empty": ({"batches": [jnp.ones((0, 12))]}, ValueError, "at least one"),
    "unlike": ({"batches": [jnp.ones((2, 12)), jnp.ones((2, 11))]}, ValueError, "batch 1"),
    "bare budget": ({"budget": 0.5}, TypeError, "Budget"),
    "unreachable": ({"budget": jc.Budget(flops=1e-3)}, ValueError, "smallest reachable"),
    "group": ({"groups": ["nope"]}, ValueError, "nope"),
    "distance": ({"distance": "logits"}, ValueError, "'classes', 'values'"),
    "no question": ({"distance": None}, ValueError, "loss= or a distance="),
    "loss": ({"loss": lambda variables, batch: batch["label"]}, ValueError, "one real number"),
    "protect": ({"protect": ["*/nope"]}, ValueError, "match none"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused(perceptron: networks.Case, name: str) -> None:
    changed, error, words = REFUSED[name]
    given = {"batches": perceptron.batches, "budget": jc.Budget(flops=0.5), **changed}
    batches, budget = given.pop("batches"), given.pop("budget")
    with pytest.raises(error, match=words):
        recipes.prune(perceptron.apply, perceptron.variables, batches, budget, key=KEY, **given)


def test_one_output_is_no_class() -> None:
    apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]  # noqa: E731
    variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 1))}
    batches, budget = [jnp.ones((5, 3))], jc.Budget(flops=0.5)
    with pytest.raises(ValueError, match="distance='values'"):
        recipes.prune(apply, variables, batches, budget, key=KEY)


def test_an_endless_loader_is_read_no_further_than_asked(perceptron: networks.Case) -> None:
    read = []

    def endless() -> Iterator[Batch]:
        while True:
            read.append(1)
            yield perceptron.batches[0]

    recipes.prune(
        perceptron.apply,
        perceptron.variables,
        endless(),
        jc.Budget(flops=0.5),
        key=KEY,
        importance=recipes.Magnitude(),
        examples=100,
    )
    assert len(read) == 3


@pytest.mark.parametrize("importance", [recipes.Taylor(2, 16), recipes.Meta(2, 16)])
def test_gradients_at_the_whole_network_need_labels(
    perceptron: networks.Case, importance: recipes.Importance
) -> None:
    with pytest.raises(ValueError, match="need a loss= of labels, .* or take Fisher"):
        recipes.prune(
            perceptron.apply,
            perceptron.variables,
            perceptron.batches,
            jc.Budget(flops=0.6),
            key=KEY,
            importance=importance,
        )
