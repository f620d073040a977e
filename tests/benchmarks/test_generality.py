"""The reach of the graph never falls behind what the result file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import generality
from jaxcompress import Graph
from tests.laws import TOYS, graph_of

FILE = Path(__file__).parents[2] / "benchmarks/results/generality.json"
KNOWN = json.loads(FILE.read_text())
# One of each kind: their siblings differ in depth or in the number of classes.
CNNS = ("alexnet_cifar", "mobilenet_v2", "nin", "resnet20", "resnet50", "vgg16_bn")
SCANNED = ("bert_base, scanned", "gpt2, scanned", "llama_7b, scanned")
NETWORKS = (*CNNS, "vit_tiny", "minilm_l6", *SCANNED)


def check(graph: Graph, before: dict[str, float]) -> None:
    now = generality.reach(graph)
    assert now["params"] >= before["params"] - 1e-9
    assert now["flops"] >= before["flops"] - 1e-9


@pytest.mark.parametrize("name", sorted(TOYS))
def test_no_toy_loses_reach(name: str) -> None:
    check(graph_of(name), KNOWN["toys"][name])


@pytest.mark.parametrize("name", NETWORKS)
def test_no_network_loses_reach(name: str) -> None:
    check(generality.traced(name), KNOWN["networks"][name])


def test_removing_equalled_masking() -> None:
    wrong = {name: row["error"] for name, row in KNOWN["toys"].items() if row["error"] > 1e-5}
    assert not wrong
