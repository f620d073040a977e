"""`sparsify`: set weights to zero for good, as a Compression.

The function does not change, the variables keep their shapes; what is saved of them is bytes, in
an artifact. It composes: sparsify after shrinking or factorizing, through `chain`.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np
import optax

from jaxcompress.annotations import Array, Function, Json, PyTree
from jaxcompress.compression.optimizer_state import map_optimizer_state
from jaxcompress.compression.record import Compression
from jaxcompress.graph import Graph
from jaxcompress.paths import flatten_with_paths
from jaxcompress.sparse.masks import check_masks, masked
from jaxcompress.sparse.oriented import check_pattern, oriented
from jaxcompress.sparse.patterns import Block, Pattern

__all__ = ["check_sparse", "from_spec", "sparsify"]


def sparsify(
    variables: PyTree, masks: PyTree, *, pattern: Pattern | None = None, graph: Graph | None = None
) -> Compression:
    """Remove the weights whose mask is 0: w <- w where mask else 0.

    Args:
        variables: those that the masks were made for; arrays or `jax.ShapeDtypeStruct`.
        masks: 0/1 per weight, see `jaxcompress.sparse.masks`. Leaves without a mask, or with
            the scalar True, stay as they are.
        pattern: what the masks obey, `Block()` (single weights) by default; it is verified.
        graph: which the masks were made with, where the pattern lies along the inputs.

    Returns:
        The compression. Its spec counts what each leaf keeps; which weights these are is in the
        zeros of the variables, and so in the artifact.

    Raises:
        ValueError: if masks are of other variables, not 0/1, or not of the pattern.
        TypeError: if a mask is traced.

    Example:
        >>> variables = {"a": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)}
        >>> pruned = sparsify(variables, {"a": np.array([[True, False], [False, True]])})
        >>> pruned.variables(variables)["a"].tolist()
        [[1.0, 0.0], [0.0, 4.0]]
        >>> pruned.spec["leaves"]["a"]["nonzero"]
        2
    """
    leaves, _ = flatten_with_paths(variables)
    by_path, _ = flatten_with_paths(masks)
    check_masks(leaves, by_path)
    arrays = {path: np.asarray(mask, bool) for path, mask in by_path.items() if np.ndim(mask)}
    pattern = pattern or Block()
    turned = oriented(leaves, arrays, pattern, graph)
    check_pattern(pattern, {path: one.turned for path, one in turned.items()})
    wrong = [path for path, mask in arrays.items() if not pattern.holds(turned[path].forward(mask))]
    if wrong:
        raise ValueError(
            f"every mask must be of the pattern {pattern}, but {wrong} are not; make them with "
            "this pattern"
        )
    described = {
        path: {
            "shape": list(mask.shape),
            "nonzero": int(mask.sum()),
            "pattern": str(pattern),
        }
        for path, mask in arrays.items()
    }
    return from_spec({"kind": "sparsify", "leaves": described}, arrays)


def from_spec(
    spec: Mapping[str, Json], masks: Mapping[str, np.ndarray] | None = None
) -> Compression:
    """Make a sparsifying compression from what `Compression.spec` said of it.

    A spec counts weights but does not hold masks. Without `masks`, `variables` takes those that are
    sparse already, e.g. from an artifact, and returns them as they are; anything else raises.

    Example:
        >>> from_spec({"kind": "sparsify", "leaves": {}}).variables({"a": 1.0})
        {'a': 1.0}
    """
    shapes = {path: tuple(leaf["shape"]) for path, leaf in spec["leaves"].items()}

    def variables(tree: PyTree) -> PyTree:
        leaves, _ = flatten_with_paths(tree)
        _check_shapes(leaves, shapes)
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves.values()):
            return tree
        if masks is None:
            check_sparse(spec, leaves)
            return tree
        return masked(tree, masks)

    def function(f: Function) -> Function:
        return f

    def optimizer_state(tx: optax.GradientTransformation, opt_state: PyTree) -> PyTree:
        if masks is None:
            raise ValueError(
                "an optimizer state is masked like the variables, but this compression comes from "
                "a spec, which holds no masks; make it anew with "
                "sparsify(variables, nonzero_masks(variables))"
            )
        return map_optimizer_state(tx, opt_state, shapes, lambda tree: masked(tree, masks))

    return Compression(dict(spec), variables, function, optimizer_state)


def check_sparse(spec: Mapping[str, Json], leaves: Mapping[str, Array]) -> None:
    """Raise if a leaf has more non-zero values than a sparsifying spec counts.

    Raises:
        ValueError: naming all leaves that do.
        TypeError: if a leaf is traced.
    """
    present = {path: leaves[path] for path in spec["leaves"] if path in leaves}
    if any(isinstance(leaf, jax.core.Tracer) for leaf in present.values()):
        raise TypeError(
            "a compression made from a spec holds no masks and counts zeros on the host, but these "
            "variables are traced; make it with sparsify(variables, masks)"
        )
    counts = {path: int(np.count_nonzero(np.asarray(leaf))) for path, leaf in present.items()}
    wrong = [
        f"{path}: {count} non-zero, {spec['leaves'][path]['nonzero']} expected at most"
        for path, count in counts.items()
        if count > spec["leaves"][path]["nonzero"]
    ]
    if wrong:
        raise ValueError(
            f"sparse variables have zeros where their masks are 0, but {'; '.join(wrong)}; pass "
            "what `sparsify(variables, masks).variables` returned, trained with the masks held"
        )


def _check_shapes(leaves: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
    wrong = [
        f"{path}: {np.shape(leaves[path]) if path in leaves else 'missing'}, expected {shape}"
        for path, shape in shapes.items()
        if path not in leaves or tuple(np.shape(leaves[path])) != shape
    ]
    if wrong:
        raise ValueError(
            "the variables to sparsify have the leaves that the masks were made for, but "
            f"{'; '.join(wrong)}; pass the variables of the same network"
        )
