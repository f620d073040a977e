"""PyTorch modules as JAX functions compute what PyTorch does, and obey the laws."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.adapters import torch_networks as networks  # isort: skip

import torch
from torch import nn

import jaxcompress as jc
from jaxcompress.adapters import from_torch, torch_statistics, torch_trainable
from jaxcompress.annotations import PyTree
from jaxcompress.graph import trace
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import gated
from jaxcompress.training import reestimate, replace_leaves
from tests.laws import close, difference, differentiated, same

every_module = pytest.mark.parametrize("name", networks.MODULES)
KEY = jax.random.key(7)


@every_module
def test_outputs_are_pytorchs(name: str) -> None:
    net = networks.adapted(name)
    expected = networks.run(copy.deepcopy(net.module).eval(), net.inputs)
    close(net.apply(net.variables, net.inputs), expected, 1e-6)
    close(jax.jit(net.apply)(net.variables, net.inputs), expected, 1e-6)


@every_module
def test_groups_are_found(name: str) -> None:
    graph = networks.adapted(name).graph
    assert {group: one.width for group, one in graph.groups.items()} == networks.WIDTHS[name]


@every_module
def test_removing_equals_masking(name: str) -> None:
    net = networks.adapted(name)
    small = net.prune.variables(net.variables)
    masked = gated(net.graph, net.apply)(net.variables, net.gates, net.inputs)
    close(net.prune.function(net.apply)(small, net.inputs), masked, 1e-5)
    assert difference(masked, net.apply(net.variables, net.inputs)) > 1e-2


@pytest.mark.parametrize("train", [False, True])
def test_removing_equals_masking_in_gradients_and_statistics(train: bool) -> None:
    net = networks.adapted("Cnn")
    function = net.train if train else net.apply
    with_key = lambda variables, x: function(variables, x, *[KEY] * train)  # noqa: E731

    def split(function: Any) -> Any:
        """Differentiate by the parameters alone: buffers hold counts."""

        def of_params(params: PyTree, buffers: PyTree, x: jax.Array) -> Any:
            return function({"params": params, "buffers": buffers}, x)

        return lambda v, x: differentiated(lambda p, x: of_params(p, v["buffers"], x))(
            v["params"], x
        )

    masked = split(lambda v, x: gated(net.graph, with_key)(v, net.gates, x))
    small = net.prune.variables(net.variables)
    left = split(net.prune.function(with_key))(small, net.inputs)
    right = masked(net.variables, net.inputs)
    close(left[0], right[0], 1e-5)
    both = {"params": right[2], "buffers": net.variables["buffers"]}
    close(left[2], net.prune.variables(both)["params"], 1e-5)
    stepped = replace_leaves(net.variables, right[1])
    close(replace_leaves(small, left[1]), net.prune.variables(stepped), 1e-5)


def test_training_is_pytorchs() -> None:
    net = networks.adapted("Cnn")
    module = copy.deepcopy(net.module).train()
    before = {name: tensor.clone() for name, tensor in net.module.state_dict().items()}
    outputs, state = net.train(net.variables, net.inputs, KEY)
    close(outputs, networks.run(module, net.inputs), 1e-5)
    for name, buffer in module.named_buffers():
        np.testing.assert_allclose(state["buffers"][name], buffer, rtol=1e-5, err_msg=name)
    assert net.module.training
    for name, tensor in net.module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_gradients_are_pytorchs() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.tanh(self.first(x))
            with torch.no_grad():
                scale = self.second(hidden).norm(dim=1, keepdim=True)
            return self.second(hidden) * scale + hidden.detach().sum()

    module = networks.seeded(Net())
    apply, variables = from_torch(module)
    x = np.random.default_rng(1).standard_normal((5, 4), np.float32)
    module(torch.from_numpy(x)).square().sum().backward()
    gradient = jax.grad(lambda v: jnp.square(apply(v, x)).sum())
    expected = {name: p.grad.numpy() for name, p in module.named_parameters() if p.grad is not None}
    close(gradient(variables)["params"], expected, 1e-5)
    with torch.no_grad():  # of the caller: none of the module's business
        close(
            jax.grad(lambda v: jnp.square(apply(v, x)).sum())(variables)["params"], expected, 1e-5
        )


def test_dropout_goes_by_the_key() -> None:
    train, variables = from_torch(networks.seeded(networks.Cnn(dropout=0.5)), train=True)
    x = networks.INPUTS["Cnn"]
    once, again, other = (train(variables, x, jax.random.key(seed))[0] for seed in (1, 1, 2))
    same(once, again)
    assert difference(once, other) > 1e-2


def test_half_precision_is_kept() -> None:
    module = networks.seeded(networks.Cnn()).to(torch.bfloat16).eval()
    x = networks.INPUTS["Cnn"]
    apply, variables = from_torch(module)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(variables["params"])}
    assert dtypes == {jnp.dtype(jnp.bfloat16)}
    outputs = apply(variables, jnp.asarray(x, jnp.bfloat16))
    assert outputs.dtype == jnp.bfloat16
    with torch.no_grad():
        expected = module(torch.from_numpy(x).to(torch.bfloat16)).float().numpy()
    close(outputs.astype(np.float32), expected, 2e-2)


def test_a_module_without_memory_is_traced() -> None:
    with torch.device("meta"):
        module = networks.Cnn()
    apply, variables = from_torch(module)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(variables))
    graph = trace(apply, variables, networks.INPUTS["Cnn"])
    assert {n: g.width for n, g in graph.groups.items()} == networks.WIDTHS["Cnn"]


def test_frozen_parameters_are_not_trainable() -> None:
    module = networks.Cnn()
    module.stem.requires_grad_(False)
    _, variables = from_torch(module)
    trainable = torch_trainable(module)
    chosen = [p for p, leaf in flatten_with_paths(variables)[0].items() if trainable(p, leaf)]
    assert "params/stem.weight" not in chosen
    assert len(chosen) == len(variables["params"]) - 1


def test_the_whole_flow(tmp_path: Path) -> None:
    """Prune by the front door, re-estimate statistics, save and load, cut weights."""
    net = networks.adapted("Cnn")
    batches = [{"image": net.inputs}, {"image": 2 * net.inputs}]
    prune = jc.recipes.prune(
        net.apply,
        net.variables,
        batches,
        jc.Budget(flops=0.6),
        key=KEY,
        train_apply=net.train,
        groups="all",
        examples=8,
    )
    small, train = prune.variables(net.variables), prune.function(net.train)
    statistics = torch_statistics(net.module)
    images = jnp.stack([batch["image"] for batch in batches])
    new = reestimate(train, small, images, key=KEY, statistics=statistics)
    assert difference(new["buffers"], small["buffers"]) > 1e-2
    stem = nn.Conv2d(3, new["params"]["stem.weight"].shape[0], 3, bias=False)
    stem.weight.data = torch.from_numpy(np.array(new["params"]["stem.weight"]))
    made = np.stack([networks.run(stem, batch) for batch in images])
    mean, axes = made.mean((0, 1, 3, 4)), (1, 3, 4)
    var = made.var(axes, ddof=1).mean(0) + made.mean(axes).var(0)
    np.testing.assert_allclose(new["buffers"]["norm.running_mean"], mean, rtol=1e-4)
    np.testing.assert_allclose(new["buffers"]["norm.running_var"], var, rtol=1e-4)
    sparse = jc.recipes.sparse(prune.function(net.apply), new, [net.inputs], 0.5)
    both, zeroed = jc.chain(prune, sparse.compression), sparse.variables
    assert 0.3 < np.mean(np.asarray(zeroed["params"]["point.weight"]) == 0) < 0.7
    jc.save(tmp_path, both, zeroed)
    function, loaded = jc.load(tmp_path, net.apply)
    same(loaded, zeroed)
    same(function(loaded, net.inputs), prune.function(net.apply)(zeroed, net.inputs))
