"""Which sites of a graph are factorized, and in which form, where nobody says."""

from __future__ import annotations

from jaxcompress.graph import Form, Graph, Site

__all__ = ["convolution_sites", "default_forms", "nothing_to_factorize"]


def convolution_sites(graph: Graph, first: bool = False) -> dict[str, str]:
    """Return `{site: form}`: every convolution that can be factorized, in its preferred form.

    That is what ENC searches: no dense layer, and not the first convolution, whose three input
    channels leave nothing to save.

    Args:
        graph: of the network.
        first: take the first convolution too.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> graph = trace(lambda v, x: x @ v["a"], {"a": jnp.ones((4, 4))}, jnp.ones((1, 4)))
        >>> convolution_sites(graph)
        {}
    """
    sites = [site for site in graph.sites.values() if site.primitive == "conv_general_dilated"]
    searched = sites if first else sites[1:]
    return {
        site.path: site.forms[0].name
        for site in searched
        if not site.other_uses and site.forms and _saves(site, site.forms[0])
    }


def default_forms(graph: Graph, first: bool = False) -> dict[str, str]:
    """Return `{site: form}`: what is factorized where no forms are given.

    The convolutions that ENC searches, see `convolution_sites`. Where there are none, as in MLPs
    and transformers, every site, each by the first of its forms of which rank 1 saves something.

    Args:
        graph: of the network.
        first: take the first convolution too.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.ones((8, 8)), "b": jnp.ones((8, 1))}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 8)))
        >>> default_forms(graph)
        {'a': 'dense'}
    """
    convolutions = convolution_sites(graph, first)
    if convolutions:
        return convolutions
    saving = {path: _saving_form(site) for path, site in graph.sites.items()}
    return {path: form.name for path, form in saving.items() if form is not None}


def nothing_to_factorize(graph: Graph) -> str:
    """Return why there are no sites: none is named, or what stands in the way of each.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> graph = trace(lambda v, x: x @ v["a"], {"a": jnp.ones((8, 1))}, jnp.ones((1, 8)))
        >>> nothing_to_factorize(graph).split("; ")[0]
        'nothing can be factorized: a: rank 1 costs no less than the kernel'
    """
    possible = default_forms(graph)
    if possible:
        return f"nothing can be factorized: `forms` names no site; there are {', '.join(possible)}"
    reasons = [f"{path}: {_obstacle(site)}" for path, site in graph.sites.items()]
    listed = ", ".join(reasons) or "no convolution or dot has a leaf as its kernel"
    return f"nothing can be factorized: {listed}; choose sites yourself by `forms`"


def _saving_form(site: Site) -> Form | None:
    """Return the first form that can save something, or None."""
    if site.other_uses:
        return None
    return next((form for form in site.forms if _saves(site, form)), None)


def _saves(site: Site, form: Form) -> bool:
    """Tell whether rank 1 costs less than the whole kernel, which depthwise ones do not."""
    return form.flops < site.flops and form.params < site.params


def _obstacle(site: Site) -> str:
    if site.other_uses:
        return f"read by {site.other_uses} other operations"
    if not site.forms:
        return "batched, of unequal uses, or inside a custom derivative"
    return "rank 1 costs no less than the kernel"
