"""Software stacks: every one is complete, dated, sourced and found by name; a user's own comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.errors import StackError
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.profile import Profile
from simulator.quantity import LABELS
from simulator.stack.stack import Stack, Stacks, of_format

STACKS = Stacks()
MINE = """
extends: {below}
name: mine
title: my own build
layer_overhead: {{value: 10 us, label: measured, source: my profiler}}
"""


def packaged(name: str) -> Path:
    return STACKS.paths()[name]


@pytest.mark.parametrize("name", STACKS.paths())
def test_every_number_of_a_stack_has_a_label_and_a_source(name: str) -> None:
    stack = STACKS.load(name)
    assert stack.name == name
    assert stack.date[:4].isdigit()
    for fact in stack.provenance():
        assert fact.label in LABELS, fact
        assert fact.source, fact


@pytest.mark.parametrize("name", Catalogue().names())
def test_every_profile_has_a_default_stack_that_runs_on_it(name: str) -> None:
    profile: Profile = Catalogue().load(name)
    assert profile.family in STACKS.load(profile.default_stack).families


def test_a_format_falls_back_to_the_default_entry() -> None:
    table = STACKS.load("vllm-2024").streaming
    assert table["bf16"] != table["default"]
    assert of_format(table, "bf16", "vllm-2024", "streaming") == table["bf16"]
    assert of_format(table, "mxfp4", "vllm-2024", "streaming") == table["default"]


def test_a_format_without_an_entry_names_what_to_add() -> None:
    only = {"bf16": STACKS.load("vllm-2024").streaming["bf16"]}
    with pytest.raises(StackError, match=r"stack 's' has no streaming for fp8; add it, or an entry 'default'"):
        of_format(only, "fp8", "s", "streaming")


def test_a_stack_of_the_users_own_extends_one_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.stack.yaml").write_text("extends: vllm-2025.yaml\nname: mine\nlayer_overhead: 10 us\n")
    assert Stacks([tmp_path]).load("mine").layer_overhead == 10e-6


def test_a_stack_of_the_users_own_is_found_first(tmp_path: Path) -> None:
    (tmp_path / "mine.stack.yaml").write_text(MINE.format(below=packaged("vllm-2025")))
    stack = Stacks([tmp_path]).load("mine")
    assert stack.layer_overhead == 10e-6
    assert stack.layer_overhead.label == "measured"
    assert stack.host_floor == STACKS.load("vllm-2025").host_floor


def test_a_stack_of_the_users_own_hides_one_of_the_same_name(tmp_path: Path) -> None:
    text = MINE.format(below=packaged("vllm-2025")).replace("name: mine", "name: vllm-2025")
    (tmp_path / "vllm-2025.stack.yaml").write_text(text)
    assert Stacks([tmp_path]).load("vllm-2025").title == "my own build"


def test_an_unknown_stack_names_the_nearest() -> None:
    with pytest.raises(StackError, match=r"unknown stack 'vlm-2025'; did you mean 'vllm-2025'\?"):
        STACKS.load("vlm-2025")


def test_everything_wrong_with_a_stack_is_told_at_once(tmp_path: Path) -> None:
    text = MINE.format(below=packaged("vllm-2025")) + "kv_streaming: 1.2\nstep_overhead: 5\nhost_flor: 4 ms\n"
    (tmp_path / "mine.stack.yaml").write_text(text)
    with pytest.raises(StackError) as refused:
        Stacks([tmp_path]).load("mine")
    first, second, third = str(refused.value).splitlines()
    assert "mine.stack.yaml:6:15: kv_streaming: 1.2 is more than 1" in first
    assert "mine.stack.yaml:7:16: step_overhead" in second
    assert "write 'step_overhead: " in second
    assert "mine.stack.yaml:8:1: unknown key 'host_flor'; did you mean 'host_floor'?" in third


def test_a_thread_or_an_overhead_may_be_nothing_but_never_negative(tmp_path: Path) -> None:
    (tmp_path / "mine.stack.yaml").write_text(MINE.format(below=packaged("vllm-2025")) + "step_overhead: -1 us\n")
    with pytest.raises(StackError, match=r"mine\.stack\.yaml:6:16: step_overhead: .*zero or more"):
        Stacks([tmp_path]).load("mine")


def own_stack(tmp_path: Path, more: str) -> Stack:
    (tmp_path / "mine.stack.yaml").write_text(MINE.format(below=packaged("vllm-2025")) + more)
    return Stacks([tmp_path]).load("mine")


ON_H100 = """
on:
  H100 SXM5 80GB:
    label: measured
    source: my bench
    step_overhead: 7 ms
    streaming: {fp8: 0.5, bf16: {value: 0.6, source: my other bench}}
    collectives: {launch: 3 us}
  h200-sxm-8: {step_overhead: 8 ms}
"""


def test_a_stack_has_other_numbers_on_a_single_chip(tmp_path: Path) -> None:
    stack = own_stack(tmp_path, ON_H100)
    here, sister, elsewhere = (stack.on_profile(Catalogue().load(n)) for n in ("h100-sxm-8", "h200-sxm-8", "l40s"))
    assert (here.step_overhead, sister.step_overhead, elsewhere.step_overhead) == (7e-3, 8e-3, stack.step_overhead)
    assert (here.streaming["fp8"], here.streaming["bf16"]) == (0.5, 0.6)
    assert here.streaming["default"] == stack.streaming["default"]
    assert here.collectives.launch == 3e-6
    assert here.collectives.bandwidth == stack.collectives.bandwidth


def test_numbers_of_a_single_chip_keep_their_label_and_source(tmp_path: Path) -> None:
    stack = own_stack(tmp_path, ON_H100)
    told = {fact.path: (fact.label, fact.source) for fact in stack.provenance()}
    assert told["on.H100 SXM5 80GB.step_overhead"] == ("measured", "my bench")
    facts = {
        fact.path: (fact.label, fact.source) for fact in stack.on_profile(Catalogue().load("h100-sxm-8")).provenance()
    }
    assert facts["streaming.fp8"] == ("measured", "my bench")
    assert facts["streaming.bf16"] == ("measured", "my other bench")
    assert facts["streaming.default"] == told["streaming.default"]
    assert not any(path.startswith("on.") for path in facts)


def test_a_mistake_in_the_numbers_of_a_single_chip_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"mine\.stack\.yaml:7:10: unknown key 'host_flor'; did you mean 'host_floor'"):
        own_stack(tmp_path, "on:\n  l40s: {host_flor: 1 ms}\n")
    with pytest.raises(StackError, match=r"mine\.stack\.yaml:7:28: bf16: 1.5 is more than 1"):
        own_stack(tmp_path, "on:\n  l40s: {streaming: {bf16: 1.5}}\n")


def test_what_the_users_own_stack_states_holds_on_every_chip(tmp_path: Path) -> None:
    (tmp_path / "below.stack.yaml").write_text(
        MINE.format(below=packaged("vllm-2025")).replace("name: mine", "name: below") + ON_H100
    )
    (tmp_path / "mine.stack.yaml").write_text(
        "extends: below\nname: mine\nstep_overhead: 1 ms\nstreaming: {fp8: 0.9}\ncollectives: {launch: 1 us}\n"
    )
    here = Stacks([tmp_path]).load("mine").on_profile(Catalogue().load("h100-sxm-8"))
    assert (here.step_overhead, here.streaming["fp8"], here.collectives.launch) == (1e-3, 0.9, 1e-6)
    assert here.streaming["bf16"] == 0.6


def test_of_what_several_files_state_the_nearest_holds(tmp_path: Path) -> None:
    """A parent's number for all chips holds over a grandparent's `on:`, a parent's `on:` over both."""
    grandparent = MINE.format(below=packaged("vllm-2025")).replace("name: mine", "name: grandparent") + ON_H100
    (tmp_path / "grandparent.stack.yaml").write_text(grandparent)
    (tmp_path / "parent.stack.yaml").write_text(
        "extends: grandparent\nname: parent\nstep_overhead: 1 ms\nkv_streaming: 0.5\nstreaming: {fp8: 0.9}\n"
        "on: {H100 SXM5 80GB: {kv_streaming: 0.7}}\n"
    )
    (tmp_path / "mine.stack.yaml").write_text("extends: parent\nname: mine\ncollectives: {launch: 1 us}\n")
    here = Stacks([tmp_path]).load("mine").on_profile(Catalogue().load("h100-sxm-8"))
    assert (here.step_overhead, here.kv_streaming) == (1e-3, 0.7)
    assert (here.streaming["fp8"], here.streaming["bf16"]) == (0.9, 0.6)
    assert here.collectives.launch == 1e-6


@pytest.fixture(scope="module")
def chips() -> set[str]:
    catalogue = Catalogue()
    profiles = [catalogue.load(name) for name in catalogue.names()]
    return {chip for profile in profiles for chip in (profile.name, profile.chip.name)}


@pytest.mark.parametrize("name", STACKS.paths())
def test_the_chips_of_a_stack_are_in_the_catalogue(name: str, chips: set[str]) -> None:
    assert {part for one in STACKS.load(name).on for part in one.split("+")} <= chips  # "host+chips": in a CPU node
