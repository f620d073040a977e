"""What is read from the text of a compiled program, and the programs that are compiled."""

from __future__ import annotations

from typing import get_args

import jax
import pytest

from benchmarks.tpu_aot import settings
from benchmarks.tpu_aot.networks import BUILDERS, Network, image_network
from benchmarks.tpu_aot.reading import read_text
from benchmarks.tpu_aot.run import compiled
from benchmarks.tpu_aot.steps import STEPS

TEXT = """HloModule jit_step
%fused (p: f32[]) -> f32[] {
  ROOT %a = f32[] add(%p, %p), backend_config={"estimated_cycles":"1000"}
}
%body (p: f32[]) -> f32[] {
  %c = f32[] fusion(%p), calls=%fused, backend_config={"estimated_cycles":"10"}
  ROOT %r = f32[] all-reduce(%c), to_apply=%fused
}
%condition (p: f32[]) -> pred[] {
  ROOT %l = pred[] compare(%p, %p)
}
ENTRY %main (p: f32[]) -> f32[] {
  %w = f32[] while(%p), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %s = f32[] all-gather-start(%w)
  ROOT %b = f32[] fusion(%s), calls=%fused, metadata={op_name="frame"}, backend_config={"estimated_cycles":"5"}
}
"""  # noqa: E501


def test_a_fused_operation_counts_once_and_a_loop_as_often_as_it_runs() -> None:
    reading = read_text(TEXT)
    assert reading.cycles == 3 * 10 + 5
    assert (reading.counts["whiles"], reading.counts["all_reduces"]) == (1, 1)
    assert (reading.counts["all_gathers"], reading.counts["host_calls"]) == (1, 0)


def test_a_loop_that_compares_with_a_number_runs_as_often() -> None:
    text = TEXT.replace(', backend_config={"known_trip_count":{"n":"3"}}', "")
    assert read_text(text).cycles == 10 + 5
    limit = "%n = s32[]{:T(128)} constant(8)\n  ROOT %l"
    assert read_text(text.replace("ROOT %l", limit)).cycles == 8 * 10 + 5


def test_the_frame_of_an_operation_is_left_out() -> None:
    assert read_text(TEXT, without="frame").cycles == read_text(TEXT).cycles - 5


@pytest.fixture(scope="module")
def network() -> Network:
    return image_network("resnet8", 8, 10, 4, None)


def test_a_program_compiles_for_the_devices_it_is_given(network: Network) -> None:
    program = compiled(STEPS["evaluation"](network), jax.devices()[:2])
    assert read_text(program.as_text()).counts["all_reduces"] == 0


@pytest.mark.parametrize("step", sorted(set(STEPS) - {"half, multiples of 128"}))
def test_every_step_is_a_function_of_abstract_arguments(network: Network, step: str) -> None:
    program = STEPS[step](network)
    assert len(program.split) == len(program.arguments)
    assert jax.tree.leaves(jax.eval_shape(program.function, *program.arguments))


def test_what_may_be_asked_for_is_what_there_is() -> None:
    assert get_args(settings.Step) == tuple(STEPS)
    assert get_args(settings.NetworkName) == tuple(BUILDERS)
