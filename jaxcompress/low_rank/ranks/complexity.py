"""ENC's complexity of ranks: the share of the searched sites' own cost."""

from __future__ import annotations

from collections.abc import Mapping

from jaxcompress.low_rank.ranks.sites import Sites

__all__ = ["enc_ratio"]


def enc_ratio(sites: Sites, ranks: Mapping[str, int | None]) -> float:
    """Return sum(c_l r_l) over the sites, as a share of their own FLOPs.

    ENC's complexity: it leaves out everything else, while a graph's FLOPs count it.

    Args:
        sites: that were searched.
        ranks: of them; a site that is None or not named counts as whole.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.low_rank.ranks import sites_of
        >>> variables = {"a": jnp.eye(8)}
        >>> graph = trace(lambda v, x: x @ v["a"], variables, jnp.ones((1, 8)))
        >>> enc_ratio(sites_of(graph, variables, forms={"a": "dense"}), {"a": 2})
        0.5
    """
    slope, dense = sites.slope["flops"].tolist(), sites.dense["flops"].tolist()
    rows = zip(map(ranks.get, sites.names), slope, dense, strict=True)
    return sum(whole if rank is None else each * rank for rank, each, whole in rows) / sum(dense)
