"""Weights gathered, gradients reduced and messages between stages on shared links, against closed forms and a twin that
goes layer by layer."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost.training.traffic import Traffic
from simulator.engine.device import Device
from simulator.engine.exchange import Exchange
from simulator.engine.pipeline import PipelineRecord, StageWork, step

NET = "network"


def work(
    forward: float = 1.0,
    backward: float = 2.0,
    gather: float = 0.0,
    reduce: float = 0.0,
    exposed: float = 0.0,
    layers: int = 4,
    **more: Any,
) -> StageWork:
    weights, gradients = Exchange("weights", NET, gather, exposed), Exchange("gradients", NET, reduce, exposed)
    return StageWork(forward, backward, gather=(weights,), reduce=(gradients,), layers=layers, **more)


# --- one link -------------------------------------------------------------------------------------------------------


def test_transfers_share_a_link_alike() -> None:
    env = simpy.Environment()
    device = Device(env)
    ends: dict[str, float] = {}
    for name, seconds in (("short", 1.0), ("long", 3.0)):
        device.send(NET, seconds).callbacks.append(lambda _, name=name: ends.update({name: env.now}))
    env.run()
    assert ends == {"short": pytest.approx(2.0), "long": pytest.approx(4.0)}


@pytest.mark.parametrize(("compute", "waited", "beside"), [(4.0, 1.0, 0.0), (4.0, 1.0, 1.5), (4.0, 1.0, 3.0)])
def test_a_pass_beside_a_transfer_takes_its_closed_form(compute: float, waited: float, beside: float) -> None:
    """D(1) = max(C, 2 H) + 2 X; alone C + X. The transfer gets what is left of the link."""
    env = simpy.Environment()
    device = Device(env)
    alone = device.run(compute, (Traffic(NET, waited, beside),))
    env.run(alone)
    assert env.now == pytest.approx(compute + waited)
    began = env.now
    transfer = device.send(NET, 100.0)
    env.run(device.run(compute, (Traffic(NET, waited, beside),)))
    assert env.now - began == pytest.approx(max(compute, 2 * beside) + 2 * waited)
    env.run(transfer)
    assert env.now - began == pytest.approx(100.0 + waited + beside)  # the link carries every second of both once


def twin(layers: int, compute: float, waited: float, beside: float, other: float) -> float:
    """The end of a pass beside a transfer, layer by layer: compute beside its hidden part, then the exposed one."""
    env = simpy.Environment()
    device = Device(env)
    device.send(NET, other)

    def go() -> Generator[simpy.Event, Any, None]:
        for _ in range(layers):
            hidden = [device.send(NET, beside / layers)] if beside else []
            yield env.all_of([env.timeout(compute / layers), *hidden])
            yield device.send(NET, waited / layers)

    env.run(env.process(go()))
    return env.now


@pytest.mark.parametrize("other", [1.0, 3.0, 50.0])
@pytest.mark.parametrize("beside", [0.0, 0.5, 2.5])
def test_many_layers_are_the_fluid(other: float, beside: float) -> None:
    env = simpy.Environment()
    device = Device(env)
    device.send(NET, other)
    env.run(device.run(3.0, (Traffic(NET, 1.0, beside),)))
    assert env.now == pytest.approx(twin(400, 3.0, 1.0, beside, other), rel=0.01)


# --- one step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "zero_bubble", "dualpipe"])
@pytest.mark.parametrize("exposed", [0.0, 0.3, 1.0, 1.5])
def test_alone_on_its_link_an_exchange_takes_its_exposed_share(schedule: str, exposed: float) -> None:
    """The closed form: t = exposed * (gather + reduce) + pipeline, where the rest is short beside the passes. DualPipe
    decides between passes that are ready together, so any instant of delay may change its order."""
    weights = 0.7 if schedule in ("zero_bubble", "dualpipe") else 0.0
    plain = step(schedule, [work(weights=weights)] * 4, 8, 1, 0.0, 0.0)
    found = step(
        schedule, [work(weights=weights, gather=0.05, reduce=0.1, exposed=exposed, layers=400)] * 4, 8, 1, 0, 0
    )
    near = 0.01 if schedule == "dualpipe" else 1e-4
    assert found.pipeline_s == pytest.approx(plain.pipeline_s, rel=near)
    assert found.seconds - found.pipeline_s == pytest.approx(exposed * 0.15, abs=2e-3)


def test_a_forward_pass_waits_for_weights_layer_by_layer() -> None:
    """One stage, one micro-batch: buckets of b, layers of f: the later of (b L + f) and (b + f L)."""
    for gather, expected in ((0.4, 0.1 + 1.0), (8.0, 8.0 + 0.25)):
        found = step("1f1b", [work(gather=gather)], 1, 1, 0.0, 0.0)
        assert max(each.end_s for each in found.slices if each.task.kind == "F") == pytest.approx(expected)


def test_a_backward_pass_sends_its_gradients_off_layer_by_layer() -> None:
    """The last bucket leaves at the end of the pass, or behind the others of the queue."""
    for reduce, expected in ((0.4, 3.0 + 0.1), (8.0, 1.5 + 8.0)):
        assert step("1f1b", [work(reduce=reduce)], 1, 1, 0.0, 0.0).seconds == pytest.approx(expected)


def test_later_stages_hide_more() -> None:
    """A stage that has nothing to do yet, or nothing more, exchanges meanwhile."""
    first, last = (
        step(
            "1f1b", [work(gather=1.5, reduce=3.0) if stage == loaded else work() for stage in range(4)], 8, 1, 0.0, 0.0
        )
        for loaded in (0, 3)
    )
    assert last.seconds == pytest.approx(step("1f1b", [work()] * 4, 8, 1, 0.0, 0.0).seconds)
    assert first.seconds > last.seconds + 1.0


def test_messages_and_gradients_contend_for_one_network() -> None:
    """Over links of their own a message is as fast as ever; on one link it waits for the gradients' share."""
    stages = [work(reduce=4.0)] * 4
    shared, apart = (step("1f1b", stages, 8, 1, 0.3, 0.0, link) for link in (NET, "link"))
    assert shared.seconds > apart.seconds
    slow = [c.end_s - c.start_s for c in shared.carried if c.name == "activations"]
    assert min(slow) == pytest.approx(0.3)
    assert max(slow) > 0.5
    assert all(c.end_s - c.start_s == pytest.approx(0.3) for c in apart.carried if c.name == "activations")


def delivered(record: PipelineRecord, name: str, stage: int) -> int:
    return sum(each.name == name and each.stage == stage for each in record.carried)


@pytest.mark.parametrize(("schedule", "chunks", "parts"), [("1f1b", 1, 1), ("interleaved", 2, 2), ("dualpipe", 1, 2)])
def test_every_bucket_is_carried_once(schedule: str, chunks: int, parts: int) -> None:
    stages = [work(gather=1.0, reduce=2.0, layers=4 * chunks)] * 4
    record = step(schedule, stages, 8, chunks, 0.1, 0.02)
    for stage in range(4):
        assert delivered(record, "weights", stage) == delivered(record, "gradients", stage) == 4 * parts
    assert len({(s.stage, s.task) for s in record.slices}) == len(record.slices)
    assert record.seconds == max(each.end_s for each in (*record.slices, *record.carried))


@given(st.floats(0.0, 6.0), st.floats(0.0, 6.0), st.floats(0.0, 1.0), st.floats(1.0, 4.0), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_a_faster_link_never_hurts(gather: float, reduce: float, exposed: float, faster: float, pp: int) -> None:
    slow, fast = (
        step("1f1b", [work(gather=gather / f, reduce=reduce / f, exposed=exposed)] * pp, 4, 1, 0.0, 0.0).seconds
        for f in (1.0, faster)
    )
    assert fast <= slow + 1e-9
    assert slow >= 3.0 * (3 + pp) - 1e-9
