"""Simulated against measured: what rows mean, closed forms against the engine's own table, figures, the baseline."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from simulator.cost.machine import Machine
from simulator.cost.mean_step import causal_pairs
from simulator.cost.step import step_cost
from simulator.cost.step_table import StepTable
from simulator.cost.ticks import TICKS_PER_SECOND
from simulator.hardware.catalogue import Catalogue
from simulator.model.number_format import FORMATS, Precision
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks
from simulator.validation import MeasurementError, aliases, print_validation, validate, write_validation
from simulator.validation.baseline import baseline, lost, sampled
from simulator.validation.compare import Point, figures, worst
from simulator.validation.inference import Inference
from simulator.validation.kinds import KINDS, kind_of, shipped
from simulator.validation.plots import draw_error_by_chip
from simulator.validation.predict import READINGS
from simulator.validation.question import LOAD, NO_READING, Interpreter, Question
from simulator.validation.rows import COLUMNS, FOLDER, SHIPPED, Row, read_rows, verdicts, write_compact
from simulator.validation.steps import Step, step_seconds
from simulator.validation.training.rows import TrainingRow
from simulator.validation.validation import Validation

STATIC = {
    "hardware": "h100-sxm",
    "n_chips": "2",
    "tp": "2",
    "model": "Llama 3.1 8B",
    "dtype_weights": "bf16",
    "engine": "vllm 0.10",
    "input_len": "512",
    "output_len": "128",
    "concurrency_or_batch": "16",
    "metric": "latency_s",
    "value": "2",
    "unit": "s",
}


def made(folder: Path, *changes: dict[str, str]) -> Path:
    """A file with one row for each change of STATIC, their ids r0, r1, ..."""
    path = folder / "mine.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for index, change in enumerate(changes):
            writer.writerow({**STATIC, "id": f"r{index}", **change})
    return path


def simulated(folder: Path, *changes: dict[str, str]) -> list[float]:
    """What is simulated for these rows, each in its own unit."""
    return [float(row["simulated"]) for row in validate([made(folder, *changes)]).document()["rows"]]


def h100(tp: int = 2, stack: str = "vllm-2025") -> Machine:
    return Machine(Catalogue().load("h100-sxm-8"), Stacks().load(stack), Parallelism(tp=tp))


@pytest.mark.parametrize(("model", "stack"), [("llama-3.1-8b", "vllm-2025"), ("gpt-oss-20b", "vllm-2024")])
def test_steps_cost_what_the_engine_charges(model: str, stack: str) -> None:
    architecture, machine, precision = load_model(model), h100(stack=stack), Precision()
    table = StepTable(step_cost(architecture, precision, machine, 2048, 64), machine)
    spans = [1e18 if window is None else window for window in table.windows]
    (_, decode, _), *_ = table.pieces(32, 32, [(32 * int(min(700, w)), 0) for w in spans], None, 1)
    pairs = [(int(causal_pairs(np.array([1024.0]), w)[0]), 0) for w in table.windows]
    (_, prompt, _), *_ = table.pieces(1024, 1, [(0, 0) for _ in spans], pairs, 1)
    steps = [Step(decoding=32, context=700), Step(prompts=1, length=1024)]
    here = step_seconds(architecture, precision, machine, steps)
    # ticks round every part and every key to 2^-50 s
    assert here == pytest.approx([decode / TICKS_PER_SECOND, prompt / TICKS_PER_SECOND], rel=1e-6)


def test_pairs_of_a_prompt() -> None:
    lengths = np.array([3.0, 6.0])
    assert causal_pairs(lengths, None).tolist() == [6.0, 21.0]
    assert causal_pairs(lengths, 4).tolist() == [6.0, 1 + 2 + 3 + 4 + 4 + 4]


def test_a_static_batch_is_its_prompts_and_the_other_steps(tmp_path: Path) -> None:
    steps = [Step(prompts=16, length=512), Step(decoding=16, context=512 + 64), Step(prompts=1, length=512)]
    prompts, decode, first = step_seconds(load_model("llama-3.1-8b"), Precision(), h100(), steps)
    rates = {"unit": "tok/s", "value": "1000"}
    latency, ttft, step, total, chip, prefill = simulated(
        tmp_path,
        {},
        {"metric": "ttft_ms_mean", "unit": "ms", "concurrency_or_batch": "1"},
        {"metric": "decode_ms_per_step", "unit": "ms"},
        {"metric": "output_tokens_per_s_total", **rates, "engine": "homebrew"},
        {"metric": "output_tokens_per_s_per_chip", **rates},
        {"metric": "prefill_tokens_per_s", **rates},
    )
    whole = prompts + 127 * decode
    assert [latency, ttft, step] == pytest.approx([whole, 1e3 * first, 1e3 * decode])
    assert [total, chip, prefill] == pytest.approx([16 * 128 / whole, 16 * 128 / whole / 2, 16 * 512 / prompts])


def test_a_steady_batch_carries_the_prompts_of_the_others(tmp_path: Path) -> None:
    alone, median, mean = simulated(
        tmp_path,
        {"metric": "tpot_ms_mean", "unit": "ms", "concurrency_or_batch": "1"},
        {"metric": "tpot_ms_p50", "unit": "ms"},
        {"metric": "tpot_ms_mean", "unit": "ms"},
    )
    steps = [Step(1, 576), Step(16, 576), Step(16, 576, 15 / 128, 512)]
    times = 1e3 * step_seconds(load_model("llama-3.1-8b"), Precision(), h100(), steps)
    assert [alone, median, mean] == pytest.approx(times.tolist())
    assert median < mean


def test_two_formats_share_the_layers(tmp_path: Path) -> None:
    card = {
        "hardware": "wormhole-n150", "n_chips": "1", "tp": "", "parallelism": "single chip",
        "engine": "tt_transformers",
        "metric": "decode_tokens_per_s_per_user", "unit": "tok/s/user", "concurrency_or_batch": "1",
    }  # fmt: skip
    narrow, mixed, wide = (
        1 / rate
        for rate in simulated(
            tmp_path,
            *({**card, "dtype_weights": d} for d in ("bfp4 MLP + bfp8 attn", "bfp4 FF1/FF3, bfp8 rest", "bfp8")),
        )
    )
    assert narrow < mixed < wide
    assert mixed == pytest.approx(2 / 3 * narrow + 1 / 3 * wide, rel=1e-2)  # `bfp8` has its head in bfp8 as well


def test_stages_split_by_rows_share_matrices_but_not_experts(tmp_path: Path) -> None:
    """Measured: 2.14 s on two chips, 1.81 s on four; a mixture of experts is passed from chip to chip."""
    cpp = {"engine": "llama.cpp (mid-2024)", "concurrency_or_batch": "1", "input_len": "128", "tp": "1"}
    two, four, *experts = simulated(
        tmp_path,
        *({**cpp, "n_chips": n, "pp": n} for n in ("2", "4")),
        *({**cpp, "n_chips": n, "pp": n, "model": "Mixtral 8x7B"} for n in ("2", "4")),
    )
    assert two / four == pytest.approx(2.14 / 1.81, rel=0.1)
    assert experts[0] == experts[1]


def test_reasons_instead_of_guesses(tmp_path: Path) -> None:
    found = validate(
        [
            made(
                tmp_path,
                {"model": "Frobnicate-7B"},
                {"hardware": "abacus"},
                {"request_rate": "when it rains"},
                {"request_rate": "Poisson at max rate meeting SLO"},
                {"request_rate": "inf", "input_len": ""},
                {"request_rate": "inf", "metric": "prefill_tokens_per_s", "unit": "tok/s"},
                {"metric": "tpot_ms_p99", "unit": "ms", "concurrency_or_batch": ""},
                {"metric": "gpu_hours"},
                {"metric": "latency_s", "unit": "W"},
                {"n_chips": "nan"},
                {"concurrency_or_batch": ""},
                {"tp": "best TP/PP/DP (not stated)"},
                {"dtype_weights": "three bits"},
                {"tp": "3", "n_chips": "3"},
                {"request_rate": "inf", "model": "llama3.1-405b", "n_chips": "1", "tp": ""},
            )
        ]
    )
    assert found.overall.rows == 15
    assert found.overall.simulated == 0
    assert found.overall.median_ape is None
    assert set(found.not_simulated) == {
        "no model Frobnicate-7B",
        "no profile of abacus",
        "arrivals 'when it rains'",
        "limits of the latency not known",
        "lengths not stated",
        "metric prefill_tokens_per_s is none of a load",
        "metric gpu_hours is no timing and no energy of inference, as latency_s or tpot_ms are",
        "unit W is none of latency_s, which is in s",
        "chips are not a whole number",
        "batch not stated",
        "layout not stated",
        "number format three bits",
        "layout cannot cut the model: tp 3 does not divide 32 heads over 8 key-value heads",
        next(reason for reason in found.not_simulated if reason.startswith("llama-3.1-405b does not fit 'h100-sxm-8'")),
    }


def test_an_unknown_engine_takes_the_nearest_stack_and_says_so(tmp_path: Path) -> None:
    interpreter = Interpreter()
    rows = read_rows(made(tmp_path, {"engine": "homebrew, spring 2022"}, {"engine": "homebrew"}))
    dated, undated = (interpreter.ask(row) for row in rows)
    assert isinstance(dated, Question)
    assert isinstance(undated, Question)
    assert dated.machine.stack.name == "fastertransformer-2022"
    assert undated.machine.stack.name == "vllm-2025"  # the profile's own
    found = validate([made(tmp_path, {"engine": "homebrew"})])
    assert found.assumed == {"engine 'homebrew' on hbm-gpu: vllm-2025": 1}


@pytest.mark.parametrize(
    ("change", "stack", "layout"),
    [
        ({"engine": "vllm (mid-2024)"}, "vllm-2024", "tp2"),
        ({"engine": "vllm (mid-2024)", "hardware": "mi300x"}, "vllm-rocm-2024", "tp2"),
        ({"engine": "tensorrt-llm 0.6.1"}, "tensorrt-llm-2023", "tp2"),
        ({"engine": "llama.cpp (2024)", "tp": "1", "pp": "2"}, "llama-cpp-cuda-2024", "tp1"),
        ({"model": "Qwen3-30B-A3B", "tp": "1", "ep": "4", "dp": "1", "n_chips": "4"}, "vllm-2025", "tp4 ep4"),
    ],
)
def test_words_become_stack_and_layout(tmp_path: Path, change: dict[str, str], stack: str, layout: str) -> None:
    (row,) = read_rows(made(tmp_path, change))
    question = Interpreter().ask(row)
    assert isinstance(question, Question)
    assert (question.machine.stack.name, str(question.machine.parallelism)) == (stack, layout)


def test_a_users_profile_is_found_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "h100-slow-8.yaml").write_text("extends: h100-sxm-8.yaml\nname: h100-slow-8\ntitle: slow\n")
    path = made(tmp_path, {"hardware": "h100-slow"}, {})
    slow, fast = (row["simulated"] for row in validate([path], profiles=[folder]).document()["rows"])
    assert slow == fast
    assert validate([path]).not_simulated == {"no profile of h100-slow": 1}


def test_doubted_rows_stand_apart_and_excluded_ones_are_gone(tmp_path: Path) -> None:
    notes = ("EXCLUDE: a typo", "SUSPECT: 8 times too slow", "CAUTION: may be half a card", "a clean run")
    found = validate([made(tmp_path, *({"note": note} for note in notes))])
    assert [point.row.id for point in found.apart] == ["r1", "r2"]
    assert [point.row.id for point in found.points] == ["r3"]


def test_filters_keep_rows_and_refuse_unknown_names(tmp_path: Path) -> None:
    path = made(
        tmp_path, {}, {"engine": "vllm (mid-2024)"}, {"hardware": "a100-sxm-80g"}, {"metric": "decode_ms_per_step"}
    )
    assert [p.row.id for p in validate([path], stack="vllm-2024").points] == ["r1"]
    assert [p.row.id for p in validate([path], chip="a100-sxm-80g-8").points] == ["r2"]
    assert [p.row.id for p in validate([path], metric="decode_ms_per_step").points] == ["r3"]
    with pytest.raises(MeasurementError, match=r"unknown stack 'vllm-2042'; did you mean 'vllm-202"):
        validate([path], stack="vllm-2042")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hardware,model,metric,unit\n", "mine.csv:1: no column 'value'"),
        ("hardware,modell,metric,value,unit\n", "no column 'model'; is 'modell' meant?"),
        ("hardware,model,metric,value,unit\nh100-sxm,m,latency_s,fast,s\n", "mine.csv:2: value 'fast' is no number"),
        ("hardware,model,metric,value,unit\nh100-sxm,m,latency_s,-1,s\n", "mine.csv:2: value -1 is not positive"),
        ("hardware,model,metric,value,unit\nh100-sxm,m,latency_s,inf,s\n", "mine.csv:2: value inf is not positive"),
        ("hardware,model,metric,value,unit,value\n", "mine.csv:1: two columns are called 'value'; name each once"),
        ("hardware,model,metric,value,unit\nh100, two,m,latency_s,1,s\n", "mine.csv:2: 6 cells stand under 5 columns"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(MeasurementError) as caught:
        validate([path])
    assert message in str(caught.value)


def test_columns_tell_the_kind_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tasting(Inference):
        """Another kind, told by one more column."""

        columns = Inference.columns | {"taste"}

    monkeypatch.setitem(KINDS, "tasting", Tasting)
    plain, sweet, broken = (tmp_path / f"{name}.csv" for name in ("plain", "sweet", "broken"))
    plain.write_text(",".join(COLUMNS) + "\n")
    sweet.write_text(",".join([*COLUMNS, "taste"]) + "\n")
    broken.write_text("hardware,modell,metric,value,unit\n")
    assert [kind_of(path) for path in (plain, sweet, broken)] == ["inference", "tasting", "inference"]


def test_two_rows_of_one_id_are_refused_unless_equal(tmp_path: Path) -> None:
    assert validate([made(tmp_path, {}, {"id": "r0"})]).overall.rows == 1
    with pytest.raises(MeasurementError, match="two different rows are called 'r0'"):
        validate([made(tmp_path, {}, {"id": "r0", "value": "3"})])


def test_compact_files_give_the_rows_back_and_the_same_bytes(tmp_path: Path) -> None:
    rows = read_rows(made(tmp_path, {}, {"note": 'a "quoted", note', "value": "0.123456789"}))
    for name in ("a.csv.gz", "b.csv.gz"):
        write_compact(rows, tmp_path / name)
    assert read_rows(tmp_path / "a.csv.gz") == rows
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


def point(measured: float, value: float | None) -> Point:
    cells = dict.fromkeys(COLUMNS, "") | {"unit": "s", "id": f"{measured} {value}"}
    return Point(Row(**{**cells, "value": measured}), "hbm-gpu", "s", value)  # type: ignore[arg-type]


def test_figures_of_known_errors() -> None:
    points = [point(10, 10 * (1 + e)) for e in (0.1, -0.2, 0.3, -0.4, 0.5)] + [point(1, None)]
    found = figures(points)
    assert (found.rows, found.simulated, found.coverage) == (6, 5, pytest.approx(5 / 6))
    assert (found.median_ape, found.bias) == (pytest.approx(0.3), pytest.approx(0.1))
    assert found.p90_ape == pytest.approx(0.46)  # linear between 0.4 and 0.5
    assert [p.error for p in worst(points, 2)] == pytest.approx([-0.4, 0.5])  # a factor 1.67 is farther than 1.5


def test_a_chip_with_two_names_has_one_line_in_the_chart(tmp_path: Path) -> None:
    found = validate([made(tmp_path, {"hardware": "h100-sxm"}, {"hardware": "h100-sxm-80g"})])
    assert {p.row.hardware for p in found.points} == {"h100-sxm", "h100-sxm-80g"}
    (ax,) = draw_error_by_chip([p for p in found.points if p.simulated is not None]).axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["h100-sxm-8  (2)"]


def test_the_report_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = validate([made(tmp_path, {}, {"model": "Frobnicate-7B"}, {"metric": "decode_ms_per_step", "unit": "ms"})])
    print_validation(found, 100)
    printed = capsys.readouterr().out
    assert "no model Frobnicate-7B" in printed
    assert max(len(line) for line in printed.splitlines()) <= 100
    written = write_validation(found, tmp_path / "out")
    assert {path.name for path in written} == {
        "validation.json", "validation.txt", "parity.svg", "parity.png", "error-by-chip.svg", "error-by-chip.png",
    }  # fmt: skip
    document = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert document["overall"]["coverage"] == pytest.approx(2 / 3)
    assert document["groups"][0].keys() >= {
        "family",
        "chip",
        "stack",
        "metric",
        "rows",
        "median_ape",
        "p90_ape",
        "bias",
    }
    row = document["rows"][0]
    assert row["error"] == pytest.approx(row["simulated"] / row["measured"] - 1)


def test_tables_of_words_name_what_exists() -> None:
    assert {e["reading"] for e in aliases.table("readings")} <= READINGS.keys() | NO_READING.keys() | {LOAD}
    for entry in aliases.table("dtypes"):
        used = {entry[name] for name in ("weights", "experts", "attention", "embedding", "head", "kv")} - {""}
        assert used <= FORMATS.keys(), entry
    shares: dict[tuple[str, str], float] = {}
    for entry in aliases.table("dtypes"):
        key = entry["dtype"], entry["engine"]
        shares[key] = shares.get(key, 0.0) + float(entry["share"])
    assert all(total == pytest.approx(1.0) for total in shares.values())
    for name, column in (("chips", "hardware"), ("models", "model")):
        words = [aliases.plain(entry[column]) for entry in aliases.table(name)]
        assert len(words) == len(set(words))


def test_few_rows_are_judged_and_all_of_them_exist() -> None:
    judged = verdicts()
    for path in shipped():
        ids = {row.id for row in read_rows(path)}
        assert sum(verdict.excluded for row, verdict in judged.items() if row in ids) <= 0.03 * len(ids)
        judged = {row: verdict for row, verdict in judged.items() if row not in ids}
    assert not judged


@pytest.fixture(scope="module")
def sample() -> Validation:
    return validate(keep=sampled)


def test_the_accuracy_that_was_reached_is_kept(sample: Validation) -> None:
    assert lost(sample, baseline(), "sample") == []


def test_the_median_training_step_is_within_four_per_cent_and_nine_of_ten_within_fifteen(sample: Validation) -> None:
    found = figures([point for point in sample.points if isinstance(point.row, TrainingRow)])
    assert found.median_ape is not None
    assert found.p90_ape is not None
    assert found.bias is not None
    assert found.median_ape < 0.04
    assert found.p90_ape < 0.15
    assert abs(found.bias) < 0.02
    assert found.coverage > 0.88


def test_losses_are_seen() -> None:
    found = validate([FOLDER / SHIPPED[1]], metric="decode_tokens_per_s_per_user", chip="wormhole-n150")
    median = found.overall.median_ape
    assert median is not None
    better = {"rows": 10, "simulated": 10, "median_ape": median / 1.06}
    equal = {"rows": 10, "simulated": 5, "median_ape": median / 1.04}
    assert [len(lost(found, {"overall": before})) for before in (better, equal)] == [2, 0]
