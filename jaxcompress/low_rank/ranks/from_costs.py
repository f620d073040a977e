"""Sites from their costs and singular values alone, without a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxcompress.arguments import integer, require
from jaxcompress.low_rank.ranks.evbmf import evbmf_rank
from jaxcompress.low_rank.ranks.forms import FactorCost
from jaxcompress.low_rank.ranks.sites import Sites

__all__ = ["rank_knots", "sites_from_costs"]


def sites_from_costs(
    names: Sequence[str],
    costs: Sequence[FactorCost],
    spectra: Sequence[np.ndarray],
    shapes: Sequence[tuple[int, int]],
    *,
    rest: Mapping[str, float] | None = None,
    forms: Mapping[str, str] | None = None,
    multiple_of: int = 1,
) -> Sites:
    """Return sites of these costs and spectra, with their EVBMF ranks and knots.

    Args:
        names: of the sites, usually the leaf paths of their kernels.
        costs: of each, see `spatial_cost`, `channel_cost`, `dense_cost`.
        spectra: singular values of each site's matrix, falling, `float[min(rows, columns)]`; of a
            grouped convolution the mean over groups, as the paper does.
        shapes: (rows, columns) of each site's matrix (of one group).
        rest: cost by kind of everything outside the sites, so that fractions of a budget are of the
            whole network; 0 by default, as in the paper, which counts convolutions only.
        forms: "spatial", "channel" or "dense" by site, where they are known.
        multiple_of: every search returns ranks that are multiples of this, or None.

    Raises:
        ValueError: if a singular value is not finite, or a spectrum ends before r_max.

    Example:
        >>> from jaxcompress.low_rank.ranks import dense_cost
        >>> cost = dense_cost(inputs=8, outputs=8)
        >>> sites = sites_from_costs(["a"], [cost], [np.geomspace(1, 0.01, 8)], [(8, 8)])
        >>> sites.r_max.tolist(), sites.named(np.array([3])), sites.named(np.array([4]))
        ([4], {'a': 3}, {'a': None})
    """
    require(multiple_of=integer(multiple_of))
    values = [np.asarray(spectrum, np.float64) for spectrum in spectra]
    _check_spectra(names, costs, values)
    r_max = np.asarray([cost.r_max for cost in costs], np.int64)
    rows = zip(values, shapes, r_max, strict=True)
    evbmf = [int(np.clip(evbmf_rank(s, *shape), 1, top)) for s, shape, top in rows]
    kinds = costs[0].slope.keys() if costs else ()
    return Sites(
        names=tuple(names),
        r_max=r_max,
        lowest=np.maximum(1, np.round(r_max / 10)).astype(np.int64),
        highest=r_max,
        slope={k: np.asarray([cost.slope[k] for cost in costs], np.float64) for k in kinds},
        dense={k: np.asarray([cost.dense[k] for cost in costs], np.float64) for k in kinds},
        spectra=tuple(values),
        evbmf=np.asarray(evbmf, np.int64),
        knots=tuple(rank_knots(int(t), e) for t, e in zip(r_max, evbmf, strict=True)),
        rest=dict(rest or {}),
        forms=dict(forms or {}),
        multiple_of=np.full(len(names), multiple_of, np.int64),
    )


def rank_knots(r_max: int, evbmf: int) -> np.ndarray:
    """Return the ranks at which a site's accuracy is measured, `int[7]`, rising with repeats.

    `[a, (a + e/4) / 2, e/4, e/2, e, (e + r_max) / 2, r_max]` with a = r_max / 10 and e the EVBMF
    rank, rounded to even and none below a or above r_max. The paper's text names five of them; its
    ResNet-56 has these seven, and this rounding gives all 55 rows of it.

    Args:
        r_max: largest rank.
        evbmf: rank that EVBMF sees.

    Example:
        >>> rank_knots(24, 21).tolist()
        [2, 4, 5, 10, 21, 23, 24]
    """
    tenth, quarter = round(r_max / 10), round(evbmf / 4)
    above = evbmf + round((r_max - evbmf) / 2)
    knots = [tenth, round((tenth + quarter) / 2), quarter, round(evbmf / 2), evbmf, above, r_max]
    return np.sort(np.clip(knots, max(1, tenth), r_max)).astype(np.int64)


def _check_spectra(
    names: Sequence[str], costs: Sequence[FactorCost], spectra: Sequence[np.ndarray]
) -> None:
    rows = list(zip(names, costs, spectra, strict=True))
    wrong = [name for name, _, values in rows if not np.isfinite(values).all()]
    if wrong:
        raise ValueError(
            f"singular values must be finite, but those of {', '.join(wrong)} are not; "
            "look for NaN or infinity in these kernels"
        )
    short = [f"{n}: {len(s)} < {c.r_max}" for n, c, s in rows if len(s) < c.r_max]
    if short:
        raise ValueError(
            f"a spectrum must reach r_max, but these end before: {', '.join(short)}; "
            "pass all min(rows, columns) singular values"
        )
