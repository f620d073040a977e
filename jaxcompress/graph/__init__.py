"""What may be removed from a function: labels over axes, groups, sites and costs.

`trace` reads a function's jaxpr and gives every index of every axis a label. Primitives tie labels
(`rules/`, one small rule each); connected labels are a channel, which is removed as a whole or not
at all; channels that touch the same leaf axes form a `Group`. What no rule vouches for is frozen,
with the reason.
"""

from __future__ import annotations

from jaxcompress.graph.budget import Budget
from jaxcompress.graph.cost import Cost, Term
from jaxcompress.graph.frozen import Frozen
from jaxcompress.graph.groups import Consumer, Group, Member
from jaxcompress.graph.operations import Operation
from jaxcompress.graph.record import Graph
from jaxcompress.graph.sites import Form, Site
from jaxcompress.graph.streams import internal_groups, streams
from jaxcompress.graph.timed import TimedTerm
from jaxcompress.graph.tracing import Also, trace
from jaxcompress.graph.trainable import Trainable, default_trainable, in_params, inexact
from jaxcompress.paths import (
    flatten_with_paths,
    match_path,
    match_paths,
    natural_order,
    path_string,
)

__all__ = [
    "Also",
    "Budget",
    "Consumer",
    "Cost",
    "Form",
    "Frozen",
    "Graph",
    "Group",
    "Member",
    "Operation",
    "Site",
    "Term",
    "TimedTerm",
    "Trainable",
    "default_trainable",
    "flatten_with_paths",
    "in_params",
    "inexact",
    "internal_groups",
    "match_path",
    "match_paths",
    "natural_order",
    "path_string",
    "streams",
    "trace",
]
