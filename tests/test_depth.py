"""Variable depth: what a step costs lies between the closed forms for one token and for many."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from simulator.api import load, run
from simulator.cost.machine import Machine
from simulator.cost.step import step_cost
from simulator.errors import InputError
from simulator.hardware.catalogue import Catalogue
from simulator.model.architecture import Architecture
from simulator.model.depth.early_exit import EarlyExit
from simulator.model.depth.layer_tree import Branch, LayerTree
from simulator.model.depth.mixture_of_depths import MixtureOfDepths
from simulator.model.depth.recursive import Recursive
from simulator.model.depth.self_speculative import SelfSpeculative
from simulator.model.number_format import Precision
from simulator.model.operation import Batch, Matmul
from simulator.model.parallelism import Parallelism
from simulator.model.use import Use
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks

BF16, ALONE = Precision(), Parallelism()
EXITS = {8: 0.25, 16: 0.25}  # of 32 layers: a quarter leaves at 8, a quarter at 16
MEAN = (0.25 * 8 + 0.25 * 16 + 0.5 * 32) / 32


@cache
def llama() -> Architecture:
    return load_model("llama-3.1-8b")


def exiting(**fields: object) -> Architecture:
    given = {"kind": "early_exit", "exits": EXITS, "missing_kv": "share", **fields}
    return EarlyExit.model_validate(given).applied(llama())


def layers_read(model: Architecture, tokens: float, tensor: str = "ffn") -> float:
    """Weights of a class that a step reads, over those of the full model."""

    def read(of: Architecture) -> float:
        operations = of.forward(Batch(tokens), ALONE, BF16)
        matmuls = [o for o in operations if isinstance(o, Matmul) and o.tensor == tensor]
        return float(sum(o.groups * o.n * o.k * o.repeat for o in matmuls))

    return read(model) / read(llama())


def flops(model: Architecture, tokens: float = 1.0) -> float:
    """FLOPs of the layers for each token, over those of the full model."""

    def spent(of: Architecture) -> float:
        matmuls = [o for o in of.forward(Batch(tokens), ALONE, BF16) if isinstance(o, Matmul)]
        return float(sum(o.m * o.n * o.k * o.repeat for o in matmuls))

    return spent(model) / spent(llama())


# --- runs and tokens --------------------------------------------------------------------------------------------------


def test_a_layer_runs_when_any_token_needs_it() -> None:
    use = Use(reach=0.3)
    for tokens in (1.0, 4.0, 50.0):
        assert use.times(tokens) == pytest.approx(1 - 0.7**tokens)
        assert use.times(tokens) * use.share(tokens) * tokens == pytest.approx(0.3 * tokens)
    assert (use.times(0.0), Use().times(5.0), Use().share(5.0)) == (0.0, 1.0, 1.0)


def test_gathered_tokens_fill_every_run() -> None:
    use = Use(reach=0.3, lock_step=False)
    assert (use.times(64.0), use.share(64.0)) == (0.3, pytest.approx(1.0))


# --- early exit -------------------------------------------------------------------------------------------------------


def test_one_token_costs_the_mean_depth() -> None:
    """sum p(l) l / L."""
    assert layers_read(exiting(), 1.0) == pytest.approx(MEAN)
    assert flops(exiting()) == pytest.approx(MEAN)


def test_many_tokens_read_every_layer_and_compute_the_mean_depth() -> None:
    assert layers_read(exiting(), 1000.0) == pytest.approx(1.0)
    assert flops(exiting(), 1000.0) == pytest.approx(MEAN)
    read = [layers_read(exiting(), tokens) for tokens in (1.0, 2.0, 8.0, 16.0)]
    expected = [(8 + 8 * (1 - 0.25**b) + 16 * (1 - 0.5**b)) / 32 for b in (1, 2, 8, 16)]
    assert read == pytest.approx(expected)
    assert read[-1] > 0.99  # at a batch of 16 nothing is left of the bytes that were saved


def test_depth_wise_batching_keeps_the_savings() -> None:
    for tokens in (1.0, 16.0, 1000.0):
        assert layers_read(exiting(batching="depth_wise"), tokens) == pytest.approx(MEAN)


def test_missing_keys_are_projected_computed_or_shared() -> None:
    """Copied: d x 2*d_kv weights and their FLOPs for each layer that a token skips. Computed: FLOPs are not saved."""
    copied = flops(exiting(missing_kv="copy")) - flops(exiting())
    projection = 2 * 8 * 128 * 4096
    layer = sum(sum(part.parameters(4096).values()) for part in llama().shapes()[0] if part)
    assert copied == pytest.approx((1 - MEAN) * projection / layer)
    assert flops(exiting(missing_kv="recompute"), 7.0) == pytest.approx(1.0)
    assert layers_read(exiting(missing_kv="recompute"), 1.0) == pytest.approx(MEAN)
    kept = exiting(prompts="exit").kv_bytes_per_token(BF16) / llama().kv_bytes_per_token(BF16)
    assert kept == pytest.approx(MEAN)
    assert exiting().kv_bytes_per_token(BF16) == llama().kv_bytes_per_token(BF16)


def test_without_exits_the_mean_depth_is_the_default() -> None:
    model = EarlyExit.model_validate({"kind": "early_exit", "missing_kv": "share"}).applied(llama())
    assert flops(model) == pytest.approx(0.85)


def test_a_head_at_each_exit_is_paid_by_those_who_get_there() -> None:
    model = exiting(confidence="head")
    heads = [o for o in model.forward(Batch(4.0, 4.0), ALONE, BF16) if o.name == "head"]
    assert [float(o.m * o.repeat) for o in heads if isinstance(o, Matmul)] == pytest.approx([4.0, 3.0, 2.0])


# --- the other kinds --------------------------------------------------------------------------------------------------


def test_self_speculation_has_the_speed_up_of_its_formula() -> None:
    """E / (n*e/L + 1 - e/L) of the layers' weights a token; FLOPs are never saved."""
    depth = SelfSpeculative.model_validate({"kind": "self_speculative", "exit": 8, "drafts": 4, "acceptance": 0.8})
    model = depth.applied(llama())
    expected = (1 - 0.8**5) / (1 - 0.8)
    assert depth.emitted == pytest.approx(expected)
    assert 1 / layers_read(model, 1.0) == pytest.approx(expected / (4 * 8 / 32 + 1 - 8 / 32))
    assert flops(model) == pytest.approx((4 * 8 / 32 + 5 * 24 / 32) / expected)
    assert 1.8 < 1 / layers_read(model, 1.0) < 2.2  # LayerSkip: 1.82, 2.0, 2.16
    assert model.cycles == pytest.approx(1 / expected)


def test_mixture_of_depths_halves_the_compute() -> None:
    """(1 + c) / 2; a routed layer keeps keys of its own tokens."""
    model = MixtureOfDepths.model_validate({"kind": "mixture_of_depths"}).applied(llama())
    assert flops(model, 64.0) == pytest.approx((1 + 0.125) / 2)
    assert model.kv_bytes_per_token(BF16) == pytest.approx(llama().kv_bytes_per_token(BF16) * (1 + 0.125) / 2)
    assert model.total_parameters() == llama().total_parameters()


def test_recursion_holds_its_block_once() -> None:
    given = {"kind": "recursive", "prelude": 1, "block": 10, "coda": 1, "shares": [1.0, 0.6, 0.3]}
    model = Recursive.model_validate(given).applied(llama())
    layer = sum(sum(part.parameters(4096).values()) for part in llama().shapes()[0] if part) + 2 * 4096
    assert llama().total_parameters() - model.total_parameters() == 20 * layer
    assert flops(model, 64.0) == pytest.approx((2 + 10 * 1.9) / 32)
    assert model.kv_bytes_per_token(BF16) == pytest.approx(llama().kv_bytes_per_token(BF16) * (2 + 10 * 1.9) / 32)
    shared = Recursive.model_validate({**given, "keys": "shared"}).applied(llama())
    assert shared.kv_bytes_per_token(BF16) == pytest.approx(llama().kv_bytes_per_token(BF16) * 12 / 32)


def half(layers: int) -> dict[str, float]:
    return {"layers": layers, "share": 0.5}


def test_a_tree_holds_all_of_its_nodes_and_computes_its_mean_path() -> None:
    tree = LayerTree(
        kind="layer_tree",
        root=Branch.model_validate(
            {
                "layers": 8,
                "branches": [
                    {"layers": 4, "share": 0.75},
                    {
                        "layers": 16,
                        "share": 0.25,
                        "branches": [{"layers": 8, "share": 0.5}, {"layers": 2, "share": 0.5}],
                    },
                ],
            }
        ),
    )
    model = tree.applied(llama())
    sizes = {8: 1.0, 4: 0.75, 16: 0.25, 8.5: 0.125, 2: 0.125}
    assert model.layer_count == 8 + 4 + 16 + 8 + 2
    assert flops(model) == pytest.approx(sum(int(n) * p for n, p in sizes.items()) / 32)
    for tokens in (1.0, 6.0, 400.0):
        expected = sum(int(n) * (1 - (1 - p) ** tokens) for n, p in sizes.items()) / 32
        assert layers_read(model, tokens) == pytest.approx(expected)


ROOT = {
    "layers": 8,
    "branches": [
        {"layers": 4, "share": 0.75},
        {"layers": 8, "share": 0.25, "branches": [{"layers": 8, "share": 0.5}, {"layers": 2, "share": 0.5}]},
    ],
}


def searching(search: str | list[int]) -> Architecture:
    return LayerTree.model_validate({"kind": "layer_tree", "root": ROOT, "search": search}).applied(llama())


def test_a_search_at_a_fork_costs_a_product_as_wide_as_it_has_branches() -> None:
    """Two ways for all tokens, two more for a quarter of them; a search at the entry tells all three apart."""
    entry, fork, once = searching("entry"), searching("fork"), searching([0])
    hidden = llama().hidden_size
    assert fork.total_parameters() - entry.total_parameters() == (2 + 2) * hidden
    assert fork.flops_per_token() - entry.flops_per_token() == pytest.approx(2 * hidden * (2 + 0.25 * 2))
    assert once.flops_per_token() - entry.flops_per_token() == pytest.approx(2 * hidden * 3)
    assert searching([0, 16]).flops_per_token() - entry.flops_per_token() == pytest.approx(2 * hidden * (2 + 0.25 * 2))
    assert fork.active_parameters() - entry.active_parameters() == pytest.approx(2.5 * hidden, abs=1)


def test_a_search_takes_little_of_a_step_and_its_keys_are_those_of_the_same_way() -> None:
    profile = Catalogue().load("h100-sxm-8")
    machine = Machine(profile, Stacks().load(profile.default_stack), ALONE)
    entry, fork = (step_cost(searching(s), BF16, machine, 32, 32) for s in ("entry", "fork"))
    seconds = [np.asarray(cost.tokens.total_seconds)[32] for cost in (entry, fork)]
    assert 1.0 < seconds[1] / seconds[0] < 1.02
    assert fork.keys[0].total_seconds < entry.keys[0].total_seconds


# --- as the engine sees it --------------------------------------------------------------------------------------------


def test_prompts_pass_all_layers() -> None:
    """The step table of a model whose generated tokens leave early charges a step with a prompt as the full model's."""
    profile = Catalogue().load("h100-sxm-8")
    machine = Machine(profile, Stacks().load(profile.default_stack), ALONE)
    early, full = (step_cost(model, BF16, machine, 512, 8) for model in (exiting(), llama()))
    at = np.array([1, 8, 512])
    decode, prompt = (np.asarray(early.tokens.at(at).total_seconds), np.asarray(early.prefill.at(at).total_seconds))
    dense = np.asarray(full.tokens.at(at).total_seconds)
    assert decode + prompt == pytest.approx(dense + float(np.asarray(full.prefill.total_seconds)))
    assert decode[0] < 0.75 * dense[0]
    assert early.keys[0].total_seconds == pytest.approx(MEAN * full.keys[0].total_seconds)
    assert early.pairs[0].total_seconds == pytest.approx(full.pairs[0].total_seconds)


SCENARIO = """\
model:
  - llama-3.1-8b
  - {base: llama-3.1-8b, name: early, depth: {kind: early_exit, exits: {8: 0.25, 16: 0.25}}}
  - {base: llama-3.1-8b, name: spec, depth: {kind: self_speculative, exit: 8}}
  - {base: llama-3.1-8b, depth: {kind: mixture_of_depths}}
  - {base: llama-3.1-8b, name: mor, depth: {kind: recursive, block: 10, shares: [1, 0.6, 0.3]}}
  - base: llama-3.1-8b
    name: tree
    depth: {kind: layer_tree, root: {layers: 8, branches: [{layers: 24, share: 0.4}, {layers: 8, share: 0.6}]}}
machines: [{hardware: h100-sxm-8, tp: 1}]
limits: {max_num_seqs: 16, max_num_batched_tokens: 512}
traffic: {concurrency: 1, isl: 100, osl: 50, requests: 8}
"""


def test_a_scenario_with_depths_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SCENARIO)
    summaries = [result.summary for result in run(load(path)).runs]
    assert [s["model"] for s in summaries][3] == "llama-3.1-8b + mixture_of_depths"
    assert all(s["requests_completed"] == 8 for s in summaries)
    full = summaries[0]["tpot_p50_ms"]
    for summary in summaries[1:]:
        assert 0.35 * full < summary["tpot_p50_ms"] < 0.9 * full


WRONG = {
    "kind": ("kind: early_exit", "kind: early_exits", r"did you mean 'early_exit'"),
    "sum": ("8: 0.25, 16", "8: 0.95, 16", r"exits add up to 1.2"),
    "outside": ("16: 0.25", "32: 0.25", r"3:\d+: no exit after 32 layers in a model of 32; write 1 to 31"),
    "share": ("16: 0.25", "16: 1.25", r"1.25 is more than 1"),
    "exit": ("exit: 8", "exit: 32", r"4:\d+: exit 32 is not inside a model of 32 layers"),
    "shares": ("[1, 0.6, 0.3]", "[0.6, 1]", r"shares are not 1 and then ever fewer"),
    "block": ("block: 10", "block: 40", r"prelude, block and coda are 42 layers, the model has 32"),
    "fork": ("share: 0.4", "share: 0.5", r"the shares of the branches add up to 1.1; make them 1"),
    "unsearched": (
        "layer_tree, root",
        "layer_tree, search: [9], root",
        r"no search before the fork after 8 layers; write search: \[8, ...\]",
    ),
    "unsorted": ("layer_tree, root", "layer_tree, search: [8, 0], root", r"search is not a rising list"),
    "long": ("layers: 24", "layers: 25", r"a path of 33 layers is longer than the model's 32"),
}


@pytest.mark.parametrize(("old", "new", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    assert old in SCENARIO
    path.write_text(SCENARIO.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        run(load(path))
