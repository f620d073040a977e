"""Several processes of one run, under `jax.distributed`: the first decides, all follow together.

Every process runs the same program. `exchanged` is where they meet: each says something and hears
what all say, with a deadline. On it stand `agree` (the same facts everywhere), `by_first` (the
first does it, the others take its result), `together` (all do it, or all raise) and `check_shared`
(all see one folder). What they say goes through the coordinator that `jax.distributed.initialize`
starts, not through devices: no program is compiled, and who does not come is named. `gathered`
alone moves arrays. With one process each of these is nothing but its work.
"""

from __future__ import annotations

from jaxcompress.processes.arrays import gathered
from jaxcompress.processes.meeting import SECONDS, exchanged, give_up, is_first
from jaxcompress.processes.working import agree, by_first, check_shared, together

__all__ = [
    "SECONDS",
    "agree",
    "by_first",
    "check_shared",
    "exchanged",
    "gathered",
    "give_up",
    "is_first",
    "together",
]
