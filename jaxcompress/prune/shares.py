"""Least and largest shares of groups: one number, or one for each pattern of group names."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping

from jaxcompress.arguments import each, real

__all__ = ["check_patterns", "share_problem", "shares_of"]


def share_problem(share: float | Mapping[str, float]) -> str | None:
    """Say why shares are no numbers in [0, 1]; None where they are.

    Example:
        >>> share_problem(0.5), share_problem({"a*": 2})
        (None, 'by name: for a* a finite number of 0 to 1, but is 2')
    """
    return each(share, lambda value: real(value, least=0, most=1))


def shares_of(share: float | Mapping[str, float], name: str) -> list[float]:
    """Return the shares that hold for a group: all whose pattern its name fits.

    Example:
        >>> shares_of(0.5, "a[1]"), shares_of({"a[1]": 0.2, "?[1]": 0.3, "b*": 0.4}, "a[1]")
        ([0.5], [0.2, 0.3])
    """
    if not isinstance(share, Mapping):
        return [float(share)]
    return [float(value) for pattern, value in share.items() if _fits(name, pattern)]


def check_patterns(names: Collection[str], **shares: float | Mapping[str, float]) -> None:
    """Raise unless every pattern fits the name of a group that may lose channels.

    Raises:
        ValueError: naming the patterns that fit none, by argument.
    """
    missed = {
        argument: [p for p in share if not any(_fits(name, p) for name in names)]
        for argument, share in shares.items()
        if isinstance(share, Mapping)
    }
    wrong = [f"{patterns} of {argument}=" for argument, patterns in missed.items() if patterns]
    if wrong:
        raise ValueError(
            f"a share is of a group with scores, but {' and '.join(wrong)} match none; these are "
            f"{', '.join(list(names)[:8]) or 'none'}"
        )


def _fits(name: str, pattern: str) -> bool:
    # Names of groups end in an axis, as in kernel[3], which is no set of letters.
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))
