"""The sites of a network as arrays: what the rank searches know, and all that they know.

A site of rank r costs `slope * r`; where two factors would cost as much as the original or more,
the site is left alone (rank None) and costs `dense`. Costs are kept by kind, as in `Budget`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from jaxcompress.graph.budget import Budget

__all__ = ["Evaluate", "Ranks", "Search", "Sites"]

Ranks = dict[str, int | None]
"""`{site: rank}`, None where the site is left alone: what every search returns."""


@dataclass(frozen=True, eq=False)
class Sites:
    """What can be factorized: one entry per site in every field.

    Made by `sites_of` from a graph, or by `sites_from_costs` from shapes.

    Attributes:
        names: of the sites, `[sites]`.
        r_max: `int[sites]`, the rank at which two factors have as many parameters as one kernel.
        lowest: `int[sites]`, the smallest rank a search may give; the paper's is r_max / 10.
        highest: `int[sites]`, the largest; above it, or at r_max, a site may still be left alone.
        slope: by kind (flops, params), `float[sites]`: cost per rank, c_l and w_l.
        dense: by kind, `float[sites]`: cost of the site as it is.
        spectra: singular values in falling order, `float[min(rows, columns)]` per site.
        evbmf: `int[sites]`, the rank that a variational Bayesian analysis sees.
        knots: ranks at which accuracy is measured, rising `int[knots]` per site.
        rest: by kind, the cost of everything outside the sites.
        forms: "spatial", "channel" or "dense" by site; empty where the sites are of no graph.
        multiple_of: `int[sites]`, of what ranks are multiples where a site is not left alone, or
            `int[]` for all sites. A site without a multiple in lowest..highest is left alone.
    """

    names: tuple[str, ...]
    r_max: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    slope: Mapping[str, np.ndarray]
    dense: Mapping[str, np.ndarray]
    spectra: tuple[np.ndarray, ...]
    evbmf: np.ndarray
    knots: tuple[np.ndarray, ...]
    rest: Mapping[str, float] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    multiple_of: np.ndarray = field(default_factory=lambda: np.ones((), np.int64))

    @property
    def neutral(self) -> np.ndarray:
        """`int[sites]`: from this rank on two factors save nothing of some kind, so None is meant.

        Larger than r_max where even r_max saves, which rounding can make happen.
        """
        kinds = [np.ceil(self.dense[k] / self.slope[k] - 1e-9) for k in self.slope]
        return np.maximum(np.min(kinds, axis=0).astype(np.int64), 1)

    @property
    def total(self) -> dict[str, float]:
        """Cost by kind of the network as it is."""
        return {k: float(v.sum()) + self.rest.get(k, 0.0) for k, v in self.dense.items()}

    def clip(self, ranks: np.ndarray) -> np.ndarray:
        """Return the nearest allowed ranks, `int[..., sites]`."""
        highest = np.minimum(self.highest, self.neutral)
        clipped = np.clip(ranks, np.minimum(self.lowest, highest), highest).astype(np.int64)
        return np.where(self.multiple_of > 1, self._nearest(clipped), clipped)

    def _nearest(self, ranks: np.ndarray) -> np.ndarray:
        """Return the nearest multiples, ties down, or neutral where that is nearer or alone."""
        step, neutral = self.multiple_of, self.neutral
        least = -(-self.lowest // step) * step
        most = np.minimum(self.highest, neutral - 1) // step * step
        near = np.clip((2 * ranks + step - 1) // (2 * step) * step, least, most)
        may_be_whole = self.highest >= np.minimum(self.r_max, neutral)
        is_whole = may_be_whole & (neutral - ranks < abs(ranks - near))
        return np.where(is_whole | (least > most), neutral, near)

    def options(self, site: int, low: int, high: int) -> np.ndarray:
        """Return the allowed ranks of the site at one position between two of them, rising."""
        step = int(np.broadcast_to(self.multiple_of, len(self.names))[site])
        return np.unique(np.append(np.arange(low, high, step), high))

    def site_costs(self, kind: str, ranks: np.ndarray) -> np.ndarray:
        """Return `float[..., sites]`: slope * rank, or dense from the neutral rank on."""
        return np.where(ranks >= self.neutral, self.dense[kind], self.slope[kind] * ranks)

    def costs_of(self, site: int, kind: str, ranks: np.ndarray) -> np.ndarray:
        """Return `float[...]`, the cost of the site at one position at many ranks, `int[...]`."""
        is_whole = ranks >= self.neutral[site]
        return np.where(is_whole, self.dense[kind][site], self.slope[kind][site] * ranks)

    def cost(self, kind: str, ranks: np.ndarray) -> np.ndarray:
        """Return `float[...]`, the cost of the network at `ranks`, `int[..., sites]`."""
        return self.site_costs(kind, ranks).sum(-1) + self.rest.get(kind, 0.0)

    def fits(self, ranks: np.ndarray, ceilings: Mapping[str, float]) -> np.ndarray:
        """Return `bool[...]`: no ceiling is exceeded (by more than float rounding)."""
        slack = {kind: 1e-9 * self.total[kind] for kind in ceilings}
        fit = [self.cost(k, ranks) <= limit + slack[k] for k, limit in ceilings.items()]
        return np.all(fit, axis=0)

    def ceilings(self, budget: Budget) -> dict[str, float]:
        """Return the budget's ceilings as absolute numbers; fractions are of `total`.

        Raises:
            ValueError: if there is no site, or costs of a kind are not counted.
        """
        if not self.names:
            raise ValueError(
                "a search chooses ranks of sites, but there is none; name kernels in `forms` of "
                "`sites_of`, or give `sites_from_costs` a cost for each"
            )
        unknown = sorted(set(budget.ceilings()) - set(self.slope))
        if unknown:
            raise ValueError(
                f"a budget may bound what the sites count, {sorted(self.slope)}, but bounds "
                f"{unknown}; add slope and dense of that kind or drop the ceiling"
            )
        total = self.total
        return budget.absolute(total)

    def fix(self, ranks: Mapping[str, int | None]) -> Sites:
        """Return the sites, some held at a given rank, as the paper holds the first convolution.

        A rank that is held need be no multiple of anything.

        Raises:
            ValueError: if a site does not exist.
        """
        self._check_names(ranks)
        lowest, highest = self.lowest.copy(), self.highest.copy()
        multiple_of = np.broadcast_to(self.multiple_of, len(self.names)).copy()
        for name, rank in ranks.items():
            i = self.names.index(name)
            lowest[i] = highest[i] = self.neutral[i] if rank is None else rank
            multiple_of[i] = 1
        return replace(self, lowest=lowest, highest=highest, multiple_of=multiple_of)

    def named(self, ranks: np.ndarray) -> Ranks:
        """Return `{site: rank}` of `int[sites]`, None where two factors save nothing."""
        whole = np.asarray(ranks) >= self.neutral
        return {name: None if whole[i] else int(ranks[i]) for i, name in enumerate(self.names)}

    def array(self, ranks: Mapping[str, int | None]) -> np.ndarray:
        """Return `int[sites]` of `{site: rank}`, neutral where a site is None or not named.

        Undoes `named`: `sites.cost("flops", sites.array(ranks))` is what ranks cost.

        Raises:
            ValueError: if a site does not exist.
        """
        self._check_names(ranks)
        given = [
            (ranks.get(name), whole) for name, whole in zip(self.names, self.neutral, strict=True)
        ]
        return np.asarray([whole if rank is None else rank for rank, whole in given], np.int64)

    def _check_names(self, names: Collection[str]) -> None:
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise ValueError(f"no site is called {unknown}; the sites are {', '.join(self.names)}")


Search = Callable[[Sites, Budget], Ranks]
"""Any of the searches, its options bound by `functools.partial`."""

Evaluate = Callable[[Ranks], float]
"""How accurate the network is at ranks: `truncations` makes variables of them."""
