"""How many singular values stand out of noise: the analytic variational Bayesian answer."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq, minimize_scalar

__all__ = ["evbmf_rank"]

GRID = 200


def evbmf_rank(singular_values: np.ndarray, rows: int, columns: int) -> int:
    """Return the rank of empirical variational Bayesian matrix factorization, noise estimated.

    With L <= M the sides and alpha = L / M, a component is kept where its singular value exceeds
    `sqrt(M sigma^2 x)`, `x = (1 + t)(1 + alpha / t)`, t the zero of
    `phi(t) + phi(t / alpha)`, `phi(z) = log(z + 1) / z - 1/2`. The noise variance sigma^2 minimises
    the free energy `sum_h psi(gamma_h^2 / (M sigma^2))` within the bounds of theorem 9, on a grid
    and then by Brent's method, because it has several minima.

    Args:
        singular_values: all of them, `float[min(rows, columns)]`.
        rows: of the matrix.
        columns: of the matrix.

    Returns:
        A rank from 0 (nothing but noise) to min(rows, columns).

    Source: Nakajima, Sugiyama, Babacan, Tomioka, "Global analytic solution of fully-observed
    variational Bayesian matrix factorization", JMLR 14 (2013), theorem 2 (threshold), theorem 9
    (noise).

    Example:
        >>> random = np.random.default_rng(0)
        >>> signal = random.normal(size=(40, 3)) @ random.normal(size=(3, 60))
        >>> noisy = signal + 0.1 * random.normal(size=(40, 60))
        >>> evbmf_rank(np.linalg.svd(noisy, compute_uv=False), 40, 60)
        3
    """
    short, long = sorted((rows, columns))
    squared = np.sort(np.asarray(singular_values, np.float64))[::-1] ** 2
    if len(squared) != short:
        raise ValueError(
            f"a matrix of {rows} x {columns} has {short} singular values, got {len(squared)}; "
            "pass all of them"
        )
    if not squared.any():
        return 0
    alpha = short / long
    limit = _threshold(alpha)
    noise = _noise_variance(squared, long, alpha, limit)
    return int((squared > long * noise * limit).sum())


def _phi(z: float) -> float:
    return float(np.log1p(z) / z - 0.5)


def _threshold(alpha: float) -> float:
    """Return x, the smallest kept gamma^2 / (M sigma^2)."""
    t = brentq(lambda z: _phi(z) + _phi(z / alpha), 1e-9, 10.0)
    return float((1 + t) * (1 + alpha / t))


def _noise_variance(squared: np.ndarray, long: int, alpha: float, limit: float) -> float:
    """Return the sigma^2 of least free energy (theorem 9)."""
    short = len(squared)
    most = int(np.ceil(short / (1 + alpha))) - 1
    tail = squared[most:]
    upper = squared.sum() / (short * long)
    lower = max(tail[0] / (long * limit), tail.mean() / long, 1e-12 * upper)
    if lower >= upper:
        return float(upper)
    # In logarithms the bounds, often decades apart, are searched evenly.
    grid = np.linspace(np.log(lower), np.log(upper), GRID)
    energies = [_free_energy(squared / (long * np.exp(g)), alpha, limit) for g in grid]
    best = int(np.argmin(energies))
    bracket = (grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)])
    refined = minimize_scalar(
        lambda g: _free_energy(squared / (long * np.exp(g)), alpha, limit),
        bounds=bracket,
        method="bounded",
    )
    return float(np.exp(refined.x if refined.fun < energies[best] else grid[best]))


def _free_energy(x: np.ndarray, alpha: float, limit: float) -> float:
    """Return the sum of psi(x) = x - log x, plus psi_1(x) above the threshold."""
    x = np.maximum(x, 1e-300)
    kept = x[x > limit]
    shifted = kept - (1 + alpha)
    tau = 0.5 * (shifted + np.sqrt(np.maximum(shifted**2 - 4 * alpha, 0)))
    above = np.log1p(tau) + alpha * np.log1p(tau / alpha) - tau
    return float((x - np.log(x)).sum() + above.sum())
