"""Fitting a stack to measurements: what is known comes back, wild rows do not lead it astray, bad input is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from simulator.cost.machine import Machine
from simulator.errors import InputError
from simulator.hardware.catalogue import Catalogue
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.quantity import format_quantity
from simulator.stack.stack import Stacks
from simulator.validation import demand
from simulator.validation.fit import REFUSED, Fit, LeftOut, Runs, entries, fit, main, questions, run
from simulator.validation.leave_out import (
    A_RUN,
    ALONE,
    ONE_MODEL,
    SHARED,
    chips_left_out,
    models_left_out,
    numbers,
    part_of_the_way,
)
from simulator.validation.load import Arrivals, Lengths, Limits, Load, requests_held
from simulator.validation.predict import predict
from simulator.validation.question import Question
from simulator.validation.repeats import Sent
from simulator.validation.rows import COLUMNS, UNITS, Reason, Row
from simulator.validation.stack_file import Entry, written
from simulator.validation.stack_numbers import Prior, exchanged, number
from simulator.validation.surrogate import surrogates

PATHS = ("streaming.bf16", "layer_overhead", "collectives.launch")


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return questions("gpt-fast-2023", ["a100-sxm-80g"])


def measured_as(asked: list[Question], simulated: dict[str, float]) -> list[Question]:
    """The same rows, had they been measured like that."""
    return [replace(q, row=replace(q.row, value=simulated[q.row.id] / UNITS[q.row.unit][0])) for q in asked]


def test_numbers_that_made_the_rows_come_back(asked: list[Question]) -> None:
    stack = asked[0].machine.stack
    truth = stack.model_copy(update={"layer_overhead": type(stack.layer_overhead)(70e-6)})
    made = predict([replace(q, machine=replace(q.machine, stack=truth)) for q in asked])
    found = fit(measured_as(asked, made), PATHS, Prior(10.0))  # type: ignore[arg-type]
    assert found.numbers["layer_overhead"] == pytest.approx(70e-6, rel=1e-2)
    assert found.numbers["streaming.bf16"] == pytest.approx(float(stack.streaming["bf16"]), rel=1e-2)
    assert np.abs(found.after).max() < 5e-3 < np.abs(found.before).max()


def test_a_wild_row_pulls_with_a_bounded_force(asked: list[Question]) -> None:
    made = dict(predict(asked))
    made[asked[3].row.id] = 50.0 * float(made[asked[3].row.id])  # type: ignore[arg-type]
    found = fit(measured_as(asked, made), ("layer_overhead",))  # type: ignore[arg-type]
    assert found.numbers["layer_overhead"] == pytest.approx(float(asked[0].machine.stack.layer_overhead), rel=0.1)


def test_shipped_numbers_are_the_fit_of_shipped_rows() -> None:
    rows = questions("vllm-2024", ["a100-sxm-40g"])
    found, stack = fit(rows, ("layer_overhead", "kv_streaming")), rows[0].machine.stack
    assert found.numbers["layer_overhead"] == pytest.approx(float(stack.layer_overhead), rel=0.05)
    assert np.median(np.abs(found.after)) < 0.04


def test_the_entry_says_how_many_rows_how_well_when_and_how_far_numbers_move(asked: list[Question]) -> None:
    found = Fit({"streaming.bf16+fp16": 0.8, "layer_overhead": 5e-5}, np.zeros(1), np.array([0.01, -0.03]))
    left = LeftOut(np.array([0.05]), {"streaming.bf16+fp16": (0.8, 0.8), "layer_overhead": (4e-5, 6e-5)})
    (new,) = entries(found, asked, date(2026, 11, 24), left)
    assert f"fit of 2026-11-24 to {len(asked)} rows (gpt-fast-2023 on a100-sxm-80g): median error 2.0 %" in new.source
    assert new.source.endswith("5.0 % on models left out")
    assert new.numbers == {
        "streaming.bf16": "0.8",
        "streaming.fp16": "0.8",
        "layer_overhead": "{value: 50 us, range: [40 us, 60 us]}",
    }


STACK = """\
name: mine            # a comment
layer_overhead: 40 us
on:
  Chip A:             # another
    source: >-
      an older
      fit
    streaming: {bf16: 0.8, fp8: {value: 0.7, source: a paper}}  # of peak
    kv_streaming: 0.9
    collectives:
      launch: 9 us
  Chip B:
    layer_overhead: 30 us
notes: the end
"""


def plain(text: str) -> Any:
    """Data of YAML, all scalars as text: YAML 1.1 takes `on` for a truth."""
    return yaml.load(text, Loader=yaml.BaseLoader)


def test_a_new_chip_joins_the_others_and_nothing_else_changes() -> None:
    text = written(STACK, Entry("Chip C", 'a "fit"', {"streaming.bf16": "0.85", "layer_overhead": "33 us"}))
    added = text.replace(STACK.partition("notes")[0], "").partition("notes")[0]
    assert added == (
        '  Chip C:\n    label: calibrated\n    source: "a \\"fit\\""\n'
        "    streaming: {bf16: 0.85}\n    layer_overhead: 33 us\n"
    )
    assert text.replace(added, "") == STACK
    first = written("name: mine\nlayer_overhead: 40 us\n", Entry("C", "fit", {"layer_overhead": "33 us"}))
    assert first.endswith('on:\n  C:\n    label: calibrated\n    source: "fit"\n    layer_overhead: 33 us\n')


def test_numbers_are_exchanged_in_place_and_those_that_stay_keep_their_source() -> None:
    numbers = {
        "streaming.bf16": "{value: 0.85, range: [0.8, 0.9]}",
        "streaming.int8": "0.6",
        "collectives.launch": "8 us",
        "collectives.bandwidth": "0.5",
        "layer_overhead": "35 us",
    }
    text = written(STACK, Entry("Chip A", "a new fit", numbers))
    before, after = (plain(each) for each in (STACK, text))
    chip = after["on"]["Chip A"]
    assert chip["streaming"] == {
        "bf16": {"value": "0.85", "range": ["0.8", "0.9"]},
        "fp8": {"value": "0.7", "source": "a paper"},
        "int8": "0.6",
    }
    assert chip["collectives"] == {"launch": "8 us", "bandwidth": "0.5"}
    assert (chip["label"], chip["source"], chip["layer_overhead"]) == ("calibrated", "a new fit", "35 us")
    assert chip["kv_streaming"] == {"value": "0.9", "source": "an older fit"}
    assert after["on"]["Chip B"] == before["on"]["Chip B"]
    assert all(comment in text for comment in ("# a comment", "# another", "# of peak"))
    assert written(text, Entry("Chip A", "a new fit", numbers)) == text


@pytest.mark.parametrize("name", ["vllm-2024", "llama-cpp-argonne-2024", "gpt-fast-2023", "tt-metal-2025"])
def test_every_kind_of_shipped_file_takes_an_entry(name: str) -> None:
    text = Stacks().paths()[name].read_text()
    new = plain(written(text, Entry("H100 SXM5 80GB", "fit", {"streaming.fp16": "0.5"})))
    old = plain(text)
    assert new["on"]["H100 SXM5 80GB"]["streaming"]["fp16"] == "0.5"
    assert {key: value for key, value in new.items() if key != "on"} == {k: v for k, v in old.items() if k != "on"}


def test_an_entry_in_braces_is_left_to_its_writer() -> None:
    with pytest.raises(InputError, match="`on` stands in braces"):
        written("on: {A: {layer_overhead: 3 us}}", Entry("A", "fit", {"layer_overhead": "2 us"}))


def test_the_command_writes_the_file_and_the_stack_has_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tensorrt-llm-2023.stack.yaml"
    path.write_text(Stacks().paths()["tensorrt-llm-2023"].read_text())
    arguments = ["tensorrt-llm-2023", "l40s", "layer_overhead", "--profiles", str(tmp_path), "--write"]
    main(arguments)
    overhead = Stacks([tmp_path]).load("tensorrt-llm-2023").on["L40S 48GB"].layer_overhead
    assert f"layer_overhead: {{value: {format_quantity(overhead, 's')}" in capsys.readouterr().out
    assert overhead.range is not None
    assert overhead.range[0] <= float(overhead) <= overhead.range[1]
    path.unlink()
    path.mkdir()  # what cannot be written, for root too
    with pytest.raises(SystemExit, match="fit: "):
        main(arguments)


def test_a_chip_left_out_takes_the_numbers_of_its_sisters() -> None:
    asked = [*questions("vllm-2024", ["a100-sxm-40g"])[:2], *questions("vllm-2024", ["h100-sxm"])[:2]]
    left = chips_left_out(asked)
    for here, there in ((asked[0], asked[2]), (asked[2], asked[0])):
        changed = left[here.row.id]
        assert isinstance(changed, Question)
        assert changed.machine.profile is here.machine.profile
        assert dict(numbers(changed.machine.stack)) == pytest.approx(dict(numbers(there.machine.stack)))


def test_who_has_no_sister_or_none_with_other_numbers_is_not_left_out(asked: list[Question]) -> None:
    assert chips_left_out(asked[:1]) == {asked[0].row.id: ALONE}
    same = questions("llama-cpp-avx-2025", ["raspberry-pi-5-16g", "i9-13900k"])
    assert set(chips_left_out(same).values()) == {SHARED}


def test_a_model_left_out_takes_what_the_others_tell(asked: list[Question]) -> None:
    """Rows made with layers that cost a quarter more; what the model itself measured says nothing."""
    rows, model, stack = asked[::3], asked[0].architecture.name, asked[0].machine.stack
    slower = exchanged(stack, {"layer_overhead": 1.25 * float(stack.layer_overhead)})
    truth = predict(question.on(slower) for question in rows)
    made = measured_as(rows, truth)  # type: ignore[arg-type]
    wild = [replace(q, row=replace(q.row, value=10.0 * q.row.value)) for q in made if q.architecture.name == model]
    found = models_left_out(made)
    same = models_left_out([*wild, *(q for q in made if q.architecture.name != model)])
    for question in wild:
        left, again = found[question.row.id], same[question.row.id]
        assert isinstance(left, Question)
        assert isinstance(again, Question)
        assert left.machine.profile is question.machine.profile
        assert dict(numbers(again.machine.stack)) == pytest.approx(dict(numbers(left.machine.stack)))
        assert predict([left])[question.row.id] == pytest.approx(truth[question.row.id], rel=0.05)


def test_a_step_along_a_straight_line_goes_no_further_than_it_helps(asked: list[Question]) -> None:
    stack = asked[0].machine.stack
    here = float(stack.layer_overhead)
    rows = measured_as(asked[::3], predict(q.on(exchanged(stack, {"layer_overhead": 1.4 * here})) for q in asked[::3]))  # type: ignore[arg-type]
    for there, found in ((1.4, 1.4), (1.4**2, 1.4), (1.4**4, 1.4), (50.0, 50.0**0.125)):
        moved = part_of_the_way(rows, stack, {"layer_overhead": here}, {"layer_overhead": there * here})
        assert float(moved.layer_overhead) == pytest.approx(found * here)


def test_a_model_that_alone_tells_a_number_is_not_left_out(asked: list[Question]) -> None:
    assert set(models_left_out(asked[:1]).values()) == {ONE_MODEL}
    names = {question.architecture.name for question in asked}
    one, other = sorted(names)[:2]
    formats = {(q.architecture.name, q.precisions[0][1].weights): q for q in asked}
    wide = [q for (name, stored), q in formats.items() if name == one and stored == "bf16"]
    narrow = [q for (name, stored), q in formats.items() if name == other and stored == "int8"]
    found = models_left_out([*wide, *narrow])
    assert found[narrow[0].row.id] == Reason("streaming.int8 is known from this model alone")
    bare = wide[0].machine.stack.model_copy(update={"streaming": {}})
    refused = [question.on(bare) for question in (*wide, *narrow)]
    assert set(predict(models_left_out(refused).values()).values()) == set(predict(refused).values())  # type: ignore[arg-type]
    busy = loaded("ttft_mean", Arrivals())
    assert models_left_out([busy]) == {busy.row.id: A_RUN}


def test_what_cannot_be_fitted_is_refused(asked: list[Question]) -> None:
    with pytest.raises(InputError, match="did you mean 'a100-sxm-80g'"):
        questions("gpt-fast-2023", ["a100-sxm-81g"])
    with pytest.raises(InputError, match="no number above 0 at 'layer_overheat'"):
        fit(asked, ("layer_overheat",))
    with pytest.raises(SystemExit, match="fit: unknown chip"):
        main(["gpt-fast-2023", "tpu"])


def loaded(metric: str, arrivals: Arrivals, value: float = 1.0) -> Question:
    """A row of llama-3.1-8b on an H100 under load."""
    of = Question(Row(**dict.fromkeys(COLUMNS, "")), *[None] * 4)  # type: ignore[arg-type]
    machine = Machine(Catalogue().load("h100-sxm-8"), Stacks().load("vllm-2025"), Parallelism())
    model, limits = load_model("llama-3.1-8b"), Limits(64, 2048, 0.9)
    load = Load(model, Precision(), machine, 1, arrivals, Lengths(256.0), Lengths(64.0), limits)
    row = replace(of.row, id=f"{metric} {arrivals}", metric=metric, value=value, unit="s")
    reading = demand.figure(metric)
    assert reading
    return replace(of, row=row, architecture=model, machine=machine, reading=reading, load=load)


def test_loads_of_equal_means_but_other_spreads_have_closed_forms_of_their_own() -> None:
    plain = loaded("tpot_ms_mean", Arrivals(requests=2000)).load
    assert plain
    spread = replace(plain, outputs=Lengths(64.0, 1.0))
    found = surrogates([plain, spread])
    alike, drawn = found[plain.key], found[spread.key]
    assert alike
    assert drawn
    assert drawn.holds < alike.holds  # those underway are the long ones


def test_numbers_come_back_from_rows_under_load_too() -> None:
    held = requests_held(loaded("requests_per_s", Arrivals()).load)  # type: ignore[arg-type]
    asked = [
        loaded("output_tokens_per_s_total", Arrivals(requests=2000)),
        *(loaded(f"{name}_ms_mean", Arrivals(rate=0.5 * held, requests=2000)) for name in ("tpot", "ttft")),
        loaded("tpot_ms_mean", Arrivals(concurrency=8, requests=200)),
    ]
    stack, paths = asked[0].machine.stack, ("layer_overhead", "streaming.bf16")
    truth = {"layer_overhead": 1.6 * float(stack.layer_overhead), "streaming.bf16": 0.7}
    made = predict([q.on(exchanged(stack, truth)) for q in asked])
    found = fit(measured_as(asked, made), paths, Prior(10.0))  # type: ignore[arg-type]
    assert found.numbers == pytest.approx(truth, rel=0.03)


def test_numbers_come_back_by_runs_where_prompts_are_found_in_the_cache() -> None:
    loop = Arrivals(concurrency=4, requests=40)
    asked = [loaded(f"{name}_ms_p90", loop) for name in ("tpot", "ttft")]
    asked = [replace(q, load=replace(q.load, earlier=(Sent(20, 256, 64),))) for q in asked]  # type: ignore[type-var]
    stack = asked[0].machine.stack
    truth = {"layer_overhead": 1.6 * float(stack.layer_overhead)}
    made = predict([q.on(exchanged(stack, truth)) for q in asked])
    found = fit(measured_as(asked, made), ["layer_overhead"], Prior(10.0), follow=run)  # type: ignore[arg-type]
    assert found.numbers == pytest.approx(truth, rel=0.01)


@pytest.mark.parametrize(("share", "faster"), [(0.5, False), (1.3, True)])
def test_a_row_at_a_rate_says_that_its_system_held_it_and_a_queue_that_explodes_says_nothing(
    share: float, faster: bool
) -> None:
    rate = share * requests_held(loaded("requests_per_s", Arrivals()).load)  # type: ignore[arg-type]
    at_rate = Arrivals(rate=rate, requests=500)
    asked = [loaded("output_tokens_per_s_total", at_rate, 64 * rate)]
    if faster:
        asked.append(loaded("ttft_ms_p50", at_rate, 1e-4))
    stack = asked[0].machine.stack
    change = fit(asked, ("layer_overhead",)).numbers["layer_overhead"] / float(stack.layer_overhead)
    assert change < 0.9 if faster else change == pytest.approx(1.0)


def test_the_prior_says_where_numbers_are_expected_how_far_from_there_and_within_what(asked: list[Question]) -> None:
    stack = asked[0].machine.stack
    twice = exchanged(stack, {path: 2.0 * number(stack, path) for path in ("layer_overhead", "collectives.launch")})
    paths = ("layer_overhead", "collectives.launch")
    tight = fit(asked, paths, Prior(1e-4, around=twice)).numbers
    assert tight == pytest.approx({path: float(number(twice, path)) for path in paths}, rel=1e-2)
    one = fit(asked, paths, Prior(1e-4, {"layer_overhead": 10.0}, around=twice)).numbers
    assert one["layer_overhead"] < 0.8 * tight["layer_overhead"]
    bound = fit(asked, paths, Prior(10.0, {}, {"layer_": (30e-6, 31e-6)}, twice)).numbers
    assert 30e-6 <= bound["layer_overhead"] <= 31.01e-6


def test_sister_chips_share_the_numbers() -> None:
    rows = [*questions("vllm-2024", ["a100-sxm-40g"])[:3], *questions("vllm-2024", ["h100-sxm"])[:3]]
    found = fit(rows, ("layer_overhead",))
    first, second = entries(found, rows, date(2026, 11, 25), prior=", around stack")
    assert first.chip != second.chip
    assert (first.numbers, first.source) == (second.numbers, second.source)
    assert "vllm-2024 on a100-sxm-40g, h100-sxm, around stack" in first.source


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--around", "H100"], "unknown chip in stack 'gpt-fast-2023'"),
        (["--prior", "layer_overhead"], "states no value"),
        (["--prior", "layer_overhead=wide"], "'wide' is no number"),
        (["--prior", "layer_overhead=-1"], "the spread is -1"),
        (["--bounds", "layer_overhead=50 us..40 us"], "the lower first"),
        (["--bounds", "kv=0.5..0.9"], "none of the fitted numbers begins with 'kv'"),
    ],
)
def test_a_prior_that_makes_no_sense_is_refused(options: list[str], words: str) -> None:
    with pytest.raises(SystemExit, match=words):
        main(["gpt-fast-2023", "a100-sxm-80g", "layer_overhead", *options])


NESTED = """\
host:
  streaming: {default: 0.5}
on:
  Chip:
    label: calibrated
    source: before
    layer_overhead: 1 us
    host:
      vector: 0.4
"""


def test_numbers_of_blocks_in_blocks_are_written_where_they_belong() -> None:
    text = written(NESTED, Entry("Chip", "now", {"host.streaming.default": "0.7", "host.vector": "0.6"}))
    found = plain(text)["on"]["Chip"]
    assert found["host"] == {"vector": "0.6", "streaming": {"default": "0.7"}}
    assert found["source"] == "now"
    assert found["layer_overhead"] == {"value": "1 us", "source": "before"}
    fresh = Entry("Other", "now", {"host.streaming.default": "0.7", "host.streaming.int8": "0.8", "overlap": "2"})
    assert plain(written(NESTED, fresh))["on"]["Other"]["host"] == {"streaming": {"default": "0.7", "int8": "0.8"}}


def test_numbers_that_make_a_row_fail_are_no_better_for_it(asked: list[Question]) -> None:
    class Refusing(Runs):
        def seconds(self, asked: Any, numbers: Any) -> dict[str, float | Reason]:
            return {q.row.id: q.measured for q in asked} | {asked[0].row.id: Reason("does not fit")}

    found = run(asked, {}, Refusing())({})
    assert found[0] == REFUSED > 0
    assert not found[1:].any()
