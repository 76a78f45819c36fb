"""Traffic: what comes out of a generator or a trace file, and how a bad file is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator.engine import traffic
from simulator.engine.traces import from_trace, read_trace
from simulator.errors import InputError, ScenarioError, TraceError

TRACES = Path(__file__).parent.parent / "scenarios" / "traces"
AZURE = TRACES / "azure-conv-2023.csv"
MOONCAKE = TRACES / "mooncake-conversation-2025.jsonl"
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    return str(caught.value).replace(f"{path.parent}/", "")


def rng(seed: int = 7) -> np.random.Generator:
    return traffic.streams(seed).arrivals


# Arrivals


def test_poisson_gaps_are_exponential() -> None:
    gaps = np.diff(traffic.poisson(5.0, rng(), requests=200_000))
    assert gaps.mean() == pytest.approx(0.2, rel=0.01)
    assert np.mean(gaps > 0.4) == pytest.approx(np.exp(-2.0), rel=0.02)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_have_the_squared_variation_of_one_over_burstiness(burstiness: float) -> None:
    gaps = np.diff(traffic.gamma(5.0, burstiness, rng(), requests=400_000))
    assert gaps.mean() == pytest.approx(0.2, rel=0.01)
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(1 / burstiness, rel=0.03)


def test_a_duration_keeps_exactly_the_arrivals_before_its_end() -> None:
    longer = traffic.poisson(5.0, rng(), duration_s=400.0)
    shorter = traffic.poisson(5.0, rng(), duration_s=100.0)
    assert shorter.tolist() == longer[longer < 100.0].tolist()
    assert len(longer) == pytest.approx(2000, abs=4 * 2000**0.5)
    many = traffic.poisson(5.0, rng(), requests=len(shorter))
    assert shorter.tolist() == many.tolist()


def test_a_burst_that_ends_early_is_topped_up_to_the_duration() -> None:
    for seed in range(50):
        arrival_s = traffic.gamma(2.0, 0.05, rng(seed), duration_s=100.0)
        again = traffic.gamma(2.0, 0.05, rng(seed), requests=len(arrival_s) + 1)
        assert again[-1] >= 100.0 > arrival_s[-1]


def test_a_fixed_rate_is_a_ruler() -> None:
    assert traffic.fixed_rate(4.0, requests=5).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert traffic.fixed_rate(4.0, duration_s=1.0).tolist() == [0.0, 0.25, 0.5, 0.75]


def test_offline_and_closed_loops_start_at_zero() -> None:
    lengths = traffic.fixed(8, 3)
    offline = traffic.offline(lengths, lengths)
    assert offline.arrival_s.tolist() == [0.0, 0.0, 0.0]
    assert offline.concurrency is None
    closed = traffic.closed_loop(2, lengths, lengths, think_s=1.5)
    assert (closed.concurrency, closed.think_s, len(closed)) == (2, 1.5, 3)


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: traffic.poisson(0.0, rng(), requests=3), "request_rate is 0; write a number above 0"),
        (lambda: traffic.poisson(float("nan"), rng(), requests=3), "request_rate is nan"),
        (lambda: traffic.gamma(1.0, -1.0, rng(), requests=3), "burstiness is -1"),
        (lambda: traffic.poisson(1.0, rng()), "needs a number of requests or a duration; write requests: 1000"),
        (lambda: traffic.poisson(1.0, rng(), requests=0, duration_s=1.0), "not both"),
        (lambda: traffic.poisson(1.0, rng(), requests=0), "0 requests were asked for"),
        (lambda: traffic.poisson(1e9, rng(), duration_s=3600.0), "more than 100,000,000 requests"),
        (lambda: traffic.poisson(1e-9, rng(), duration_s=1.0), "no request arrives within 1 s"),
        (lambda: traffic.fixed_rate(1.0, duration_s=-1.0), "duration is -1"),
        (lambda: traffic.fixed(0, 3), "length is 0 tokens"),
        (lambda: traffic.uniform(9, 3, 3, rng()), r"\[9, 3\] runs backwards; write \[3, 9\]"),
        (lambda: traffic.lognormal(256, -0.1, 3, rng()), "sigma is -0.1"),
        (lambda: traffic.lognormal(256, 400.0, 99, rng()), "draws a request of .* write a smaller sigma"),
        (lambda: traffic.closed_loop(0, traffic.fixed(1, 1), traffic.fixed(1, 1)), "concurrency is 0"),
        (lambda: traffic.closed_loop(1, traffic.fixed(1, 1), traffic.fixed(1, 1), -1.0), "think time is -1 s"),
    ],
)
def test_nonsense_is_refused_with_its_mend(draw: Callable[[], object], says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        draw()


# Lengths


def test_lognormal_lengths_have_the_median_that_is_written() -> None:
    lengths = traffic.lognormal(256, 0.8, 200_000, rng())
    assert np.median(lengths) == pytest.approx(256, rel=0.01)
    assert lengths.mean() == pytest.approx(256 * np.exp(0.8**2 / 2), rel=0.01)
    assert lengths.dtype == np.int64


def test_lognormal_lengths_stay_within_one_and_the_maximum() -> None:
    lengths = traffic.lognormal(4, 3.0, 10_000, rng(), maximum=100)
    assert (lengths.min(), lengths.max()) == (1, 100)
    assert traffic.lognormal(256, 0.0, 3, rng()).tolist() == [256, 256, 256]


def test_uniform_lengths_reach_both_ends() -> None:
    lengths = traffic.uniform(3, 5, 3000, rng())
    assert set(lengths.tolist()) == {3, 4, 5}
    assert lengths.mean() == pytest.approx(4.0, abs=0.05)


def test_resampled_lengths_are_those_of_the_source() -> None:
    assert set(traffic.resample(np.array([3, 8]), 100, rng()).tolist()) == {3, 8}


def test_streams_do_not_move_each_other() -> None:
    quiet, busy = traffic.streams(7), traffic.streams(7)
    busy.arrivals.random(1000)
    busy.inputs.random(10)
    assert traffic.uniform(1, 900, 50, quiet.outputs).tolist() == traffic.uniform(1, 900, 50, busy.outputs).tolist()
    assert traffic.streams(8).outputs.random() != traffic.streams(7).outputs.random()


# Real traces


@pytest.mark.parametrize(
    ("name", "requests", "span", "inputs", "outputs"),
    [
        ("azure-code-2023.csv", 8_819, 3435.9, 2047.8, 27.9),
        ("azure-conv-2023.csv", 19_366, 3501.7, 1154.7, 211.1),
        ("mooncake-conversation-2025.jsonl", 12_031, 3537.0, 12_035, 343),
    ],
)
def test_the_shipped_traces_are_read_as_published(
    name: str, requests: int, span: float, inputs: float, outputs: float
) -> None:
    trace = read_trace(TRACES / name)
    assert len(trace) == requests
    assert trace.arrival_s[0] == 0.0
    assert trace.arrival_s[-1] == pytest.approx(span, abs=0.05)
    assert trace.input_tokens.mean() == pytest.approx(inputs, rel=1e-4)
    assert trace.output_tokens.mean() == pytest.approx(outputs, rel=2e-3)


def test_wall_clocks_keep_their_hundred_nanoseconds(tmp_path: Path) -> None:
    text = HEADER + "2023-12-31 23:59:59.9999999,5,6\r\n2024-01-01 00:00:00.0000001,7,8"
    trace = read_trace(written(tmp_path, text))
    assert trace.arrival_s.tolist() == [0.0, 2e-7]
    assert trace.input_tokens.tolist() == [5, 7]
    assert trace.output_tokens.tolist() == [6, 8]


def test_a_time_zone_is_fine_while_it_stays_the_same(tmp_path: Path) -> None:
    same = HEADER + "2024-05-10 00:00:00.5+00:00,5,6\n2024-05-10 00:00:02+00:00,7,8\n"
    assert read_trace(written(tmp_path, same)).arrival_s.tolist() == [0.0, 1.5]
    mixed = same.replace("02+00:00", "02+02:00")
    assert "trace.csv:3:1: the time zone changes from '+00:00' to '+02:00'" in refusal(written(tmp_path, mixed))


@pytest.mark.parametrize(
    "header", ["arrived_at,num_prefill_tokens,num_decode_tokens", "arrival_s, input_tokens , OUTPUT_TOKENS"]
)
def test_plain_traces_are_in_seconds(tmp_path: Path, header: str) -> None:
    trace = read_trace(written(tmp_path, f"\ufeff{header}\n10.5,100,7\n12.0,5.0,1\n\n"))
    assert trace.arrival_s.tolist() == [0.0, 1.5]
    assert trace.input_tokens.tolist() == [100, 5]
    assert trace.line.tolist() == [2, 3]


def test_columns_may_stand_in_any_order_among_others(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "model,output_tokens,input_tokens,arrival_s\ngpt,1,2,3\n"))
    assert (trace.output_tokens.tolist(), trace.input_tokens.tolist()) == ([1], [2])


def test_prefix_blocks_are_kept_when_asked_for() -> None:
    blocks = read_trace(MOONCAKE, prefix_blocks=True).prefix_blocks
    assert blocks is not None
    assert read_trace(MOONCAKE).prefix_blocks is None
    ids = [block for request in blocks for block in request]
    assert 1 - len(set(ids)) / len(ids) == pytest.approx(0.366, abs=0.001)  # the repeats that an endless cache finds


def test_an_hour_is_read_in_a_fraction_of_a_second() -> None:
    def seconds() -> float:
        start = time.process_time()
        read_trace(AZURE)
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 0.2


# Replay


def test_speed_shrinks_time_and_nothing_else() -> None:
    once, twice = from_trace(AZURE), from_trace(AZURE, speed=2.0)
    assert (twice.arrival_s * 2.0).tolist() == once.arrival_s.tolist()
    assert twice.output_tokens.tolist() == once.output_tokens.tolist()
    assert (once.note, twice.note) == ("as recorded", "replayed 2 times as fast")


def test_limits_take_the_first_of_a_trace() -> None:
    whole = from_trace(AZURE)
    assert from_trace(AZURE, requests=100).arrival_s.tolist() == whole.arrival_s[:100].tolist()
    minute = from_trace(AZURE, duration_s=60.0, speed=4.0)
    assert len(minute) == np.count_nonzero(whole.arrival_s < 60.0)
    assert minute.arrival_s[-1] < 15.0
    assert f"the first {len(minute)} of 19,366 requests" in minute.note
    assert len(from_trace(AZURE, duration_s=7200.0)) == len(whole)
    with pytest.raises(TraceError, match="20,000 requests were asked for and the trace holds 19,366"):
        from_trace(AZURE, requests=20_000)


def test_jitter_spreads_a_tick_evenly_and_keeps_the_order() -> None:
    raw = from_trace(MOONCAKE)
    spread = from_trace(MOONCAKE, jitter_s=3.0, rng=rng())
    assert len(np.unique(raw.arrival_s)) == 1180
    assert len(np.unique(spread.arrival_s)) == len(spread)
    moved = spread.arrival_s - raw.arrival_s
    assert (np.diff(spread.arrival_s) >= 0).all()
    assert moved.min() >= 0.0
    assert moved.max() < 3.0
    assert moved.mean() == pytest.approx(1.5, abs=0.03)
    assert spread.input_tokens.tolist() == raw.input_tokens.tolist()
    assert spread.note == "arrivals spread over 3 s ticks"


def test_jitter_fills_no_idle_time(tmp_path: Path) -> None:
    path = written(tmp_path, "arrival_s,input_tokens,output_tokens\n" + "0,1,1\n" * 50 + "60,1,1\n" * 50)
    moved = from_trace(path, jitter_s=3.0, rng=rng()).arrival_s
    assert moved[:50].max() < 3.0
    assert moved[50:].min() >= 60.0


@pytest.mark.parametrize("option", [{"speed": 0.0}, {"speed": float("nan")}, {"duration_s": -1.0}, {"requests": 0}])
def test_options_out_of_range_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(ScenarioError, match="write"):
        from_trace(AZURE, **option)  # type: ignore[arg-type]


# Bad files


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "2023-11-16 18:15:46.68,374,44\n2023-11-16 18:1",
            "trace.csv:3:1: the file is cut short here: 1 columns where",
        ),
        ("2023-11-16 18:15:46.68,374,44,1\n", "trace.csv:2:1: 4 columns where the header has 3"),
        (
            "2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:45.18,1,1\n",
            "trace.csv:3:1: this request comes 1.5 s before the one above it; sort the lines by time",
        ),
        ("2023-11-16 18:15:46.68,374,0\n", "trace.csv:2:28: 0 output tokens; a request has 1 to"),
        ("2023-11-16 18:15:46.68,-3,44\n", "trace.csv:2:24: -3 input tokens"),
        ("2023-11-16 18:15:46.68,nan,44\n", "trace.csv:2:24: 'nan' is not a whole number of tokens"),
        ("2023-11-16 18:15:46.68,37.5,44\n", "'37.5' is not a whole number"),
        ("2023-11-16 18:15:46.68,99999999999,44\n", "99,999,999,999 input tokens"),
        ("today,374,44\n", "trace.csv:2:1: 'today' is not a time such as 2023-11-16"),
        ("NaT,374,44\n", "'NaT' is not a time"),
        (
            "2023-02-30 18:15:46.68,374,44\n",
            "trace.csv:2:1: '2023-02-30 18:15:46.68' is not a date and time that exists",
        ),
        ("2023-11-16 18:15:46,3,4\n\n2023-11-16 18:15:47,3,4\n", "trace.csv:3:1: a blank line"),
        ("", "trace.csv:1: the trace has a header and no request"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, body: str, says: str) -> None:
    assert says in refusal(written(tmp_path, HEADER + body))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "trace.csv:1: the trace is empty; expected TIMESTAMP"),
        ("\n  \n", "the trace is empty"),
        ("\n" + HEADER, "the first line is blank"),
        ("when,what\n1,2\n", "trace.csv:1:1: unknown header 'when,what'; expected TIMESTAMP,ContextTokens"),
        (
            HEADER.replace("Generated", "Genrated"),
            "trace.csv:1:25: no column of output tokens; is 'GenratedTokens' meant",
        ),
        ("arrival_s,input_tokens\n", "no column of output tokens; write one of generatedtokens, num_decode_tokens"),
        (
            "arrival_s,arrived_at,input_tokens,output_tokens\n",
            "a second column of time, 'arrived_at' beside 'arrival_s'",
        ),
        ("arrival_s,input_tokens,output_tokens\nnan,1,1\n", "'nan' is not a time in seconds"),
        ("arrival_s,input_tokens,output_tokens\n1e999,1,1\n", "'1e999' is not a time in seconds"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(written(tmp_path, text))


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ('{"timestamp": 3, "input_le', "trace.jsonl:2:18: the file is cut short here: not a JSON object"),
        ("[1, 2]", "trace.jsonl:2:1: not a JSON object"),
        ('{"timestamp": 3, "input_length": 5}', "trace.jsonl:2:1: no output_length"),
        ('{"timestamp": 3, "input_length": 5, "output_len": 1}', "is 'output_len' meant for it?"),
        (
            '{"timestamp": NaN, "input_length": 5, "output_length": 1}',
            "trace.jsonl:2:2: timestamp is NaN, not a time in ms",
        ),
        ('{"timestamp": 3, "input_length": true, "output_length": 1}', "input_length is true, not a whole number"),
        ('{"timestamp": 3, "input_length": 5, "output_length": 0}', "trace.jsonl:2:37: 0 output tokens"),
        (
            '{"timestamp": 1, "input_length": 5, "output_length": 1}',
            "trace.jsonl:2:2: this request comes 0.001 s before",
        ),
    ],
)
def test_a_bad_json_line_is_named(tmp_path: Path, second: str, says: str) -> None:
    first = '{"timestamp": 2, "input_length": 5, "output_length": 1, "hash_ids": [0]}\n'
    assert says in refusal(written(tmp_path, first + second, "trace.jsonl"))


def test_many_bad_rows_are_counted_and_the_first_shown(tmp_path: Path) -> None:
    text = "arrival_s,input_tokens,output_tokens\n" + "0,0,1\n" * 9
    message = refusal(written(tmp_path, text)).split("\n")
    assert len(message) == 6
    assert message[0].startswith("trace.csv:2:3:")
    assert message[5] == "trace.csv: and 4 more lines like these"


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER, "azure.csv")
    assert "did you mean" in refusal(tmp_path / "azur.csv")
    path.write_bytes(b"\x1f\x8b\xff\x00")
    assert "not UTF-8 text; unpack it first" in refusal(path)
    assert "cannot be read" in refusal(tmp_path)


# The model's context


@pytest.fixture
def three(tmp_path: Path) -> traffic.Workload:
    text = "arrival_s,input_tokens,output_tokens\n0,10,10\n1,90,20\n2,50,300\n"
    return from_trace(written(tmp_path, text))


def test_a_trace_longer_than_the_context_is_refused(three: traffic.Workload) -> None:
    with pytest.raises(TraceError) as caught:
        traffic.check_context(three, 100, "tiny")
    message = str(caught.value)
    assert "trace.csv:3: 2 of 3 requests are longer than the 100 tokens that tiny takes" in message
    assert "this one has 90 + 20, the longest 350; write longer: drop or longer: truncate" in message
    with pytest.raises(InputError, match="number 2 has 90"):
        traffic.check_context(replace(three, file=None, line=None), 100, "tiny")


def test_what_is_too_long_may_be_dropped(three: traffic.Workload) -> None:
    kept = traffic.check_context(three, 110, "tiny", "drop")
    assert kept.arrival_s.tolist() == [0.0, 1.0]
    assert kept.line is not None
    assert kept.line.tolist() == [2, 3]
    assert "1 of 3 requests are longer than the 110 tokens that tiny takes: dropped" in kept.note
    with pytest.raises(TraceError, match="none is left"):
        traffic.check_context(three, 5, "tiny", "drop")


def test_what_is_too_long_may_be_cut(three: traffic.Workload) -> None:
    cut = traffic.check_context(three, 100, "tiny", "truncate")
    assert cut.input_tokens.tolist() == [10, 80, 1]
    assert cut.output_tokens.tolist() == [10, 20, 99]
    assert cut.note.endswith("cut to fit")
    assert traffic.check_context(three, 350, "tiny") is three
