"""Knowledge: what the teacher knew, and on which view of which example it said so."""

from __future__ import annotations

from jaxcompress.knowledge.losses import cross_entropy, kd
from jaxcompress.knowledge.views import Views, view, views

__all__ = ["Views", "cross_entropy", "kd", "view", "views"]
