"""Smaller variables go back into PyTorch modules, or are refused by name."""

from __future__ import annotations

import copy
from typing import Any

import jax
import numpy as np
import pytest

from tests.adapters import torch_networks as networks  # isort: skip

import torch
from torch import nn

import jaxcompress as jc
from docs.pages import pytorch
from jaxcompress.adapters import from_torch, to_torch, torch_state
from jaxcompress.low_rank import multiplied_out
from tests.laws import close, difference


def put_back(net: networks.Adapted, **keywords: Any) -> nn.Module:
    small = net.prune.variables(net.variables)
    return to_torch(net.module, net.prune.function(net.apply), small, net.inputs, **keywords)


@pytest.mark.parametrize("name", ["Cnn", "Tied"])
def test_a_smaller_module_computes_the_same(name: str) -> None:
    net = networks.adapted(name)
    made = put_back(net)
    assert made.training and net.module.training
    small = net.prune.variables(net.variables)
    expected = net.prune.function(net.apply)(small, net.inputs)
    close(networks.run(made.eval(), net.inputs), expected, 1e-5)
    whole = networks.run(copy.deepcopy(net.module).eval(), net.inputs)
    assert difference(expected, whole) > 1e-2


def test_declared_sizes_are_those_of_the_tensors() -> None:
    made: Any = put_back(networks.adapted("Cnn"))
    assert (made.stem.out_channels, made.norm.num_features) == (4, 4)
    assert (made.depthwise.in_channels, made.depthwise.groups) == (4, 4)
    assert (made.groups.num_groups, made.groups.num_channels) == (2, 4)
    again, variables = from_torch(made)
    x = networks.INPUTS["Cnn"]
    close(again(variables, x), networks.run(made.eval(), x), 1e-6)


def test_a_shared_tensor_stays_shared() -> None:
    net = networks.adapted("Tied")
    assert "head.weight" not in net.variables["params"]
    made: Any = put_back(net)
    assert made.head.weight is made.embed.weight
    state = torch_state(net.module, net.prune.variables(net.variables))
    assert torch.equal(state["head.weight"], state["embed.weight"])
    assert state.keys() == net.module.state_dict().keys()
    assert state["embed.weight"].shape == (11, 4)


def test_a_state_dict_comes_back_as_it_was() -> None:
    for module in (networks.Cnn(), networks.Cnn().to(torch.bfloat16), networks.Tied()):
        state = torch_state(module, from_torch(module)[1])
        for name, tensor in module.state_dict().items():
            assert state[name].dtype == tensor.dtype, name
            assert torch.equal(state[name], tensor), name


@pytest.mark.parametrize("split", ["whole", "lanes"])
def test_grouped_convolutions_lose_groups_or_lanes(split: str) -> None:
    module = networks.seeded(
        nn.Sequential(
            nn.Conv2d(3, 12, 3),
            nn.Conv2d(12, 12, 3, groups=3),
            nn.GroupNorm(3, 12),
            nn.Conv2d(12, 2, 1),
        )
    )
    apply, variables = from_torch(module)
    x = networks.INPUTS["Cnn"]
    graph = jc.trace(apply, variables, x, split=split)
    keep = {name: np.arange(group.width) % 3 < 2 for name, group in graph.groups.items()}
    prune = jc.shrink(graph, keep)
    made: Any = to_torch(module, prune.function(apply), prune.variables(variables), x)
    assert made[0].out_channels < 12
    assert (made[1].groups == 3) == (split == "lanes")


def test_factors_are_multiplied_out_before() -> None:
    net = networks.adapted("Tied")
    lowrank = jc.factorize(net.graph, {"params/mlp.0.weight": 3, "params/mlp.2.weight": 3})
    small = lowrank.variables(net.variables)
    function = lowrank.function(net.apply)
    with pytest.raises(ValueError, match=r"params/mlp.0.weight/first.*low_rank.multiplied_out"):
        to_torch(net.module, function, small, net.inputs)
    whole = multiplied_out(lowrank, small)
    made: Any = to_torch(net.module, net.apply, whole, net.inputs)
    close(networks.run(made.eval(), net.inputs), function(small, net.inputs), 1e-5)
    assert np.linalg.matrix_rank(made.mlp[0].weight.detach().numpy(), tol=1e-4) == 3


def test_sizes_that_a_forward_has_stored_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"layer \(TransformerEncoderLayer\) failed with"):
        put_back(networks.adapted("Encoder"))
    net = networks.adapted("Encoder")
    only = {name: kept for name, kept in net.keep.items() if "linear1" in name}
    prune = jc.shrink(net.graph, only)
    small = prune.variables(net.variables)
    assert to_torch(net.module, prune.function(net.apply), small, net.inputs).training
    module = networks.seeded(networks.Tied(reads_heads=False))
    apply, variables = from_torch(module)
    graph = jc.trace(apply, variables, networks.INPUTS["Tied"])
    heads = jc.shrink(graph, {"params/attention.key.weight[0]": np.arange(4) < 2})
    with pytest.raises(ValueError, match=r"attention \(Attention\) failed with .*invalid"):
        to_torch(module, heads.function(apply), heads.variables(variables), networks.INPUTS["Tied"])


def test_a_wrong_result_is_noticed() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.width = 8
            self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.relu(self.first(x))
            return self.second(hidden / hidden.shape[-1])

    module = networks.seeded(Scaled())
    apply, variables = from_torch(module)
    x = np.ones((2, 3), np.float32)
    graph = jc.trace(apply, variables, x)
    prune = jc.shrink(graph, {name: np.arange(8) < 4 for name in graph.groups})
    with pytest.raises(ValueError, match=r"output 0 differs by .*stored in width=8; keep the"):
        to_torch(module, prune.function(apply), prune.variables(variables), x)


def test_what_a_forward_keeps_is_forgotten() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.kept, self.seen = nn.Linear(3, 3), None, list[torch.Tensor]()
            self.scale = torch.full((3,), 2.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.kept = x if self.kept is None else self.kept + x
            self.seen.append(x)
            return self.linear(self.kept) * self.scale + len(self.seen)

    module = Keeps()
    apply, variables = from_torch(module)
    x = np.ones((2, 3), np.float32)
    results = [jax.jit(lambda v, x: apply(v, x))(variables, x) for _ in range(2)]
    close(results[0], results[1], 0)
    assert module.kept is None and not module.seen
    close(results[0], networks.run(module, x), 1e-6)


def test_what_cannot_be_adapted_is_refused_by_name() -> None:
    class Odd(nn.Module):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind, self.hidden = kind, [torch.ones(3)]
            self.inner = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> Any:
            if self.kind == "operator":
                return torch.special.airy_ai(self.inner(x))
            if self.kind == "tensor":
                return self.inner(x) + self.hidden[0]
            return {"a": (self.inner(x), {1, 2})}

    x = np.ones((2, 3), np.float32)
    cases: dict[str, tuple[type[Exception], str]] = {
        "operator": (NotImplementedError, r"in odd \(Odd\): .*airy_ai.* has no lowering"),
        "tensor": (TypeError, r"in odd \(Odd\) it meets a tensor that is none of them"),
        "result": (TypeError, r"a/1 is of set;"),
    }
    for kind, (error, words) in cases.items():
        module = nn.Sequential()
        module.add_module("odd", Odd(kind))
        apply, variables = from_torch(module)
        with pytest.raises(error, match=words):
            apply(variables, x)
    wide = nn.Linear(2, 2)
    wide.register_buffer("code", torch.tensor([2**40]))
    with pytest.raises(ValueError, match="32 bits .* more are in code; set jax_enable_x64"):
        from_torch(wide)


def test_pytorch_is_as_it_was_outside_of_calls() -> None:
    net = networks.adapted("Encoder")
    net.apply(net.variables, net.inputs)
    assert torch.backends.mha.get_fastpath_enabled()
    assert type(torch.ones(2) + 1) is torch.Tensor
    assert torch.ones(2).device.type == torch.get_default_device().type == "cpu"
    assert not hasattr(torch.ops.aten.all, "dimname")
    with pytest.raises(ValueError, match="there are no params/layer.self_attn.in_proj_weight, "):
        net.apply({"params": {}}, net.inputs)
    with pytest.raises(Exception, match=r"(?s).*in layer.self_attn"):
        net.apply(net.variables, net.inputs[..., :3])
    assert type(torch.ones(2) + 1) is torch.Tensor and torch.is_grad_enabled()


def test_the_example_of_the_page_runs() -> None:
    module = networks.seeded(networks.Cnn())
    images = networks.INPUTS["Cnn"]
    names: dict[str, Any] = {"module": module, "images": images}
    names["batches"] = np.stack([images, 2 * images])
    exec(compile(pytorch.EXAMPLE, "example", "exec"), names)
    assert names["smaller"].stem.out_channels < 8
    outputs = names["prune"].function(names["apply"])(names["small"], images)
    close(networks.run(names["smaller"].eval(), images), outputs, 1e-5)
