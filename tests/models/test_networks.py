"""The reference networks: published sizes, refusals, modes and synchronised statistics."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxcompress.models import (
    NETWORKS,
    VGG,
    MobileNetV2,
    NetworkInNetwork,
    ResNet,
    VisionTransformer,
    build,
    evaluation_function,
    initialize,
    training_function,
)
from jaxcompress.models.mobilenet import scaled_width
from jaxcompress.models.resnet import pad_shortcut
from jaxcompress.paths import flatten_with_paths
from tests.trees import structure_of

CIFAR = (1, 32, 32, 3)
IMAGENET = (1, 224, 224, 3)
TOKENS = jax.ShapeDtypeStruct((1, 3), jnp.int32)

# akamaster/pytorch_resnet_cifar10, chengyangfu/pytorch-vgg-cifar10, torchvision's mobilenet_v2,
# timm's mobilenetv2_050 and _140, efficientnet_lite0, DeiT-Ti; transformers' BertModel of
# bert-base-uncased and of all-MiniLM-L6-v2, GPT2LMHeadModel and LlamaForCausalLM of their smallest;
# the rest follows by hand from the layer widths.
PUBLISHED = [
    ("resnet8", {}, CIFAR, 75_290),
    ("resnet14", {}, CIFAR, 172_506),
    ("resnet20", {}, CIFAR, 269_722),
    ("resnet20", {"shortcut": "B"}, CIFAR, 272_474),
    ("resnet32", {}, CIFAR, 464_154),
    ("resnet44", {}, CIFAR, 658_586),
    ("resnet50", {}, IMAGENET, 25_557_032),
    ("resnet56", {}, CIFAR, 853_018),
    ("resnet56", {"shortcut": "B"}, CIFAR, 855_770),
    ("resnet110", {}, CIFAR, 1_727_962),
    ("vgg16", {}, CIFAR, 15_245_130),
    ("vgg16_bn", {}, CIFAR, 15_253_578),
    ("vgg16_imagenet", {}, IMAGENET, 138_357_544),
    ("vgg19", {}, CIFAR, 20_554_826),
    ("vgg19_bn", {}, CIFAR, 20_565_834),
    ("nin", {}, CIFAR, 966_986),
    ("snn_1k", {}, CIFAR, 413_882),
    ("snn_10k", {}, CIFAR, 4_112_882),
    ("cnn_1k", {}, CIFAR, 488_806),
    ("cnn_10k", {}, CIFAR, 4_853_806),
    ("alexnet_cifar", {}, CIFAR, 2_472_266),
    ("mobilenet_v2", {}, IMAGENET, 3_504_872),
    ("mobilenet_v2", {"width_multiplier": 0.5}, IMAGENET, 1_968_680),
    ("mobilenet_v2", {"num_classes": 10, "stem_stride": 1}, CIFAR, 2_236_682),
    ("efficientnet_lite0", {}, IMAGENET, 4_652_008),
    (
        "vit_tiny",
        {"patch_size": 16, "class_token": True, "num_classes": 1000},
        IMAGENET,
        5_717_416,
    ),
    ("minilm_l6", {}, TOKENS, 22_713_216),
    ("minilm_l6", {"scan": True}, TOKENS, 22_713_216),
    ("bert_base", {}, TOKENS, 109_482_240),
    ("gpt2", {}, TOKENS, 124_439_808),
    ("gpt2", {"scan": True}, TOKENS, 124_439_808),
    ("llama_7b", {}, TOKENS, 6_738_415_616),
    ("llama_7b", {"scan": True}, TOKENS, 6_738_415_616),
]

SMALL = {
    "resnet_a": (ResNet(depth=8, width=4), (4, 8, 8, 1)),
    "resnet_b": (ResNet(depth=8, width=4, shortcut="B"), (4, 8, 8, 1)),
    "vgg": (VGG(depth=11, width=2), (2, 32, 32, 3)),
    "nin": (NetworkInNetwork(width=6, dropout=0.5), (2, 8, 8, 3)),
    "mobilenet_v2": (MobileNetV2(num_classes=10, width_multiplier=0.1), (2, 32, 32, 3)),
    "vit": (VisionTransformer(width=8, depth=1, heads=2, dropout=0.1), (2, 8, 8, 3)),
}


def shapes(module: nn.Module, shape: Any) -> Any:
    return jax.eval_shape(lambda key: initialize(module, key, shape), jax.random.key(0))


@pytest.mark.parametrize(("name", "config", "shape", "count"), PUBLISHED)
def test_published_parameter_counts(
    name: str, config: dict[str, Any], shape: Any, count: int
) -> None:
    variables = shapes(build(name, **config), shape)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count


def test_every_name_is_counted() -> None:
    assert {name for name, *_ in PUBLISHED} == set(NETWORKS)


@functools.cache
def drawn(name: str) -> tuple[nn.Module, Any, jax.Array]:
    module, shape = SMALL[name]
    images = jax.random.normal(jax.random.key(1), shape)
    # This generator compiles several times faster than the default one.
    key = jax.random.key(0, impl="unsafe_rbg")
    return module, initialize(module, key, shape), images


@pytest.fixture(params=SMALL)
def small(request: pytest.FixtureRequest) -> tuple[nn.Module, Any, jax.Array]:
    return drawn(request.param)


def test_modes_keep_the_structure_of_variables(small: tuple[nn.Module, Any, jax.Array]) -> None:
    module, variables, images = small
    assert type(variables) is dict
    logits = jax.jit(evaluation_function(module))(variables, images)
    train_logits, state = jax.jit(training_function(module))(variables, images, jax.random.key(2))
    assert logits.shape == train_logits.shape == (images.shape[0], 10)
    assert logits.dtype == jnp.float32
    assert bool(jnp.all(jnp.isfinite(logits)) & jnp.all(jnp.isfinite(train_logits)))
    assert float(jnp.max(jnp.abs(logits - train_logits))) > 1e-6
    assert structure_of({**variables, **state}) == structure_of(variables)
    assert set(state) == set(variables) - {"params"}


def test_dtype_of_the_computation(small: tuple[nn.Module, Any, jax.Array]) -> None:
    module, variables, images = small
    half = module.clone(dtype="bfloat16")
    jaxpr = jax.make_jaxpr(evaluation_function(half))(variables, images)
    products = [e for e in jaxpr.eqns if e.primitive.name in ("conv_general_dilated",)]
    assert products and {str(e.outvars[0].aval.dtype) for e in products} == {"bfloat16"}
    assert [str(aval.dtype) for aval in jaxpr.out_avals] == ["float32"]


def test_dropout_needs_a_key() -> None:
    module, shape = SMALL["vgg"]
    variables = shapes(module, shape)
    with pytest.raises(Exception, match="dropout"):
        jax.eval_shape(
            training_function(module), variables, jax.ShapeDtypeStruct(shape, jnp.float32)
        )


def test_statistics_synchronise_over_a_mapped_axis() -> None:
    module, variables, images = drawn("resnet_a")
    logits, state = training_function(module)(variables, images)
    mapped = jax.vmap(
        training_function(module.clone(axis_name="parts")), (None, 0), axis_name="parts"
    )
    part_logits, part_state = mapped(variables, images.reshape([2, 2, 8, 8, 1]))
    np.testing.assert_allclose(part_logits.reshape(logits.shape), logits, atol=1e-4)
    for path, leaf in flatten_with_paths(part_state)[0].items():
        expected = flatten_with_paths(state)[0][path]
        np.testing.assert_allclose(leaf, np.stack([expected] * 2), atol=1e-5, err_msg=path)


def test_running_statistics_move_by_a_tenth() -> None:
    module, variables, images = drawn("resnet_a")
    kernel = variables["params"]["stem_conv"]["kernel"]
    hidden = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    _, state = training_function(module)(variables, images)
    statistics = state["batch_stats"]["stem_bn"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * hidden.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * hidden.var((0, 1, 2)), atol=1e-5)


def test_vgg_kernels_start_with_the_variance_of_he() -> None:
    params = drawn("vgg")[1]["params"]
    kernel = params["stage5_conv1"]["kernel"]
    assert float(kernel.std()) == pytest.approx((2 / (9 * kernel.shape[-1])) ** 0.5, rel=0.05)
    assert not jnp.any(params["stage5_conv1"]["bias"])


def test_pad_shortcut_splits_the_zeros() -> None:
    images = jax.random.normal(jax.random.key(0), (1, 4, 4, 4))
    carried = pad_shortcut(images, features=8, stride=2)
    np.testing.assert_array_equal(carried[..., 2:6], images[:, ::2, ::2])
    assert not jnp.any(carried[..., :2]) and not jnp.any(carried[..., 6:])


def test_scaled_width_loses_at_most_a_tenth() -> None:
    for channels in (16, 24, 32, 64, 96, 160, 320):
        for multiplier in (0.35, 0.5, 0.75, 1.0, 1.4):
            width = scaled_width(channels, multiplier)
            assert width % 8 == 0 and width >= 0.9 * channels * multiplier


def test_paths_are_readable() -> None:
    paths = flatten_with_paths(shapes(build("resnet20"), CIFAR))[0]
    for path in ("params/stem_conv/kernel", "params/stage1_block0/conv1/kernel"):
        assert path in paths
    assert "batch_stats/stage3_block2/bn2/var" in paths


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build("resnet21"), "resnet21.*take one of resnet8"),
        (lambda: build("vgg16", depth=19, size=3), "'depth', 'size'.*num_classes"),
        (lambda: ResNet(depth=18), "6n \\+ 2"),
        (lambda: ResNet(shortcut="C"), "'A' or 'B'"),  # type: ignore[arg-type]
        (lambda: VGG(depth=15), "one of \\[11, 13, 16, 19\\]"),
        (lambda: NetworkInNetwork(width=32), "multiple of 6"),
        (lambda: VisionTransformer(width=10, heads=3), "multiple of heads"),
        (lambda: shapes(VGG(), (1, 8, 8, 1)), "32x32 or more"),
        (lambda: shapes(VisionTransformer(), (1, 30, 30, 3)), "multiples of patch_size 4"),
    ],
)
def test_wrong_configurations_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
