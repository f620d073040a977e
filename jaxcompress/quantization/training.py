"""The integers as floats: to be trained, to be run where integers are not, and back again."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Function, Json, PyTree
from jaxcompress.compression.record import Compression, chain, steps_of
from jaxcompress.compression.standing_in import run_standing_in
from jaxcompress.graph.internals import abstract
from jaxcompress.graph.rearrange import rearranged
from jaxcompress.paths import flatten_with_paths
from jaxcompress.quantization.checks import check_kernels
from jaxcompress.quantization.codes import restored, rounded
from jaxcompress.quantization.quantizing import largest_of, on_codes, to_codes
from jaxcompress.quantization.running import Rounded, contract_rounded, straight_through

__all__ = ["dequantized_variables", "fake_quantized", "float_arithmetic", "float_steps"]


def fake_quantized(compression: Compression, f: Function) -> Function:
    """Return a function of floats that gives what the integers would, with a gradient.

    At each quantized site w and x are replaced by s q and t p, what codes stand for. Gradients
    pass straight through: d(s q)/dw = 1, d(t p)/dx = 1 where x is not cut off, else 0 (Jacob et
    al. 2018, section 3; scales are computed from the weights at each step, not learned). At the
    end, `compression.variables` of what was trained are codes with the same outputs.

    Args:
        compression: of `quantize`, or a chain that ends with it.
        f: the original function of (variables, *inputs): evaluation, training or loss.

    Returns:
        `g(variables, *inputs)`, of the variables before they are quantized:
        `float_steps(compression).variables(original)`.

    Raises:
        ValueError: if the last step of the compression does not quantize.

    Example:
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.quantization import quantize
        >>> apply = lambda variables, x: x @ variables["a"]
        >>> variables, x = {"a": jnp.array([[1.27], [0.402]])}, jnp.ones((1, 2))
        >>> integers = quantize(trace(apply, variables, x))
        >>> faked = fake_quantized(integers, apply)(variables, x)
        >>> exact = integers.function(apply)(integers.variables(variables), x)
        >>> round(faked.item(), 3), round(exact.item(), 3)
        (1.67, 1.67)
    """
    sites = _sites(compression)
    f = float_steps(compression).function(f)

    @functools.wraps(f)
    def faked(tree: PyTree, *inputs: PyTree, **keywords: Any) -> PyTree:
        leaves, treedef = flatten_with_paths(tree)
        check_kernels(leaves, sites)
        original = {
            path: abstract(leaf) if path in sites else leaf for path, leaf in leaves.items()
        }
        kernels = {path: _rounded_kernel(leaves[path], site) for path, site in sites.items()}
        contract = contract_rounded(sites)
        return run_standing_in(f, (treedef, original), kernels, contract, inputs, keywords)

    return faked


def float_arithmetic(compression: Compression, f: Function) -> Function:
    """Return the quantized function with sums in floats: of the same codes, the same to rounding.

    For runtimes that convolve no integers, such as those of ONNX and LiteRT: kernels stay codes,
    and what they are given is rounded alike, but s q and t p are contracted as floats.

    Args:
        compression: of `quantize`, or a chain that ends with it.
        f: the original function of (variables, *inputs).

    Raises:
        ValueError: if the last step of the compression does not quantize.

    Example:
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.quantization import quantize
        >>> apply = lambda variables, x: x @ variables["a"]
        >>> variables, x = {"a": jnp.array([[1.27], [0.402]])}, jnp.ones((1, 2))
        >>> integers = quantize(trace(apply, variables, x), activations="dynamic")
        >>> outputs = float_arithmetic(integers, apply)(integers.variables(variables), x)
        >>> round(outputs.item(), 3)
        1.67
    """
    sites = _sites(compression)
    return on_codes(float_steps(compression).function(f), sites, in_integers=False)


def float_steps(compression: Compression) -> Compression:
    """Return what is done before the last step, which quantizes.

    Raises:
        ValueError: if it does not.

    Example:
        >>> from jaxcompress.quantization.quantizing import from_spec
        >>> float_steps(from_spec({"kind": "quantize", "sites": {}})).spec
        {'kind': 'chain', 'steps': []}
    """
    _sites(compression)
    return chain(*steps_of(compression)[:-1])


def dequantized_variables(compression: Compression, variables: PyTree) -> PyTree:
    """Return the floats that codes stand for, to be trained on: w = s q.

    Quantized again, by a rule that cuts off nothing, they are the same codes.

    Args:
        compression: of `quantize`, or a chain that ends with it.
        variables: the quantized ones.

    Raises:
        ValueError: if the last step of the compression does not quantize.

    Example:
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.quantization import quantize
        >>> apply = lambda variables, x: x @ variables["a"]
        >>> variables, x = {"a": jnp.array([[1.27], [0.402]])}, jnp.ones((1, 2))
        >>> integers = quantize(trace(apply, variables, x))
        >>> back = dequantized_variables(integers, integers.variables(variables))
        >>> [round(number, 3) for number in back["a"][:, 0].tolist()]
        [1.27, 0.4]
    """
    sites = _sites(compression)
    leaves, treedef = flatten_with_paths(variables, whole=sites)
    made = {
        path: restored(*to_codes(leaves[path], site)[:2], site).astype(site["dtype"])
        for path, site in sites.items()
    }
    return jax.tree.unflatten(treedef, list({**leaves, **made}.values()))


def _sites(compression: Compression) -> Mapping[str, Json]:
    steps = steps_of(compression)
    kind = steps[-1].spec["kind"] if steps else "chain"
    if kind != "quantize":
        raise ValueError(
            f"floats are rounded as the last step of a compression says, but it is {kind!r}; "
            "chain quantize(...) behind the others"
        )
    sites: Mapping[str, Json] = steps[-1].spec["sites"]
    return sites


def _rounded_kernel(leaf: Array, site: Mapping[str, Json]) -> Rounded:
    kernel = jnp.asarray(leaf)
    whole = restored(*rounded(jax.lax.stop_gradient(kernel), site), site).astype(kernel.dtype)
    return Rounded(rearranged(straight_through(kernel, whole), site["steps"]), largest_of(site))
