"""Forms of single kernels: their limits, a slow exact twin, and the tables that they were fitted to."""

from __future__ import annotations

from datetime import date
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost.amount import norm, overlapped
from simulator.cost.attention_kernel import Heads, decode_seconds, prefill_seconds
from simulator.cost.expert_kernel import Experts, expert_seconds
from simulator.cost.product import Tiling, product
from simulator.cost.product_kernel import product_seconds
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.profile import Profile
from simulator.stack.library import Library, ProductKernel, library_names, load_library
from simulator.validation.kernels.fit import fitted, jobs
from simulator.validation.kernels.fitting import Job, fit
from simulator.validation.kernels.kind import KERNEL_TABLES, ExpertCalls, Products
from simulator.validation.kernels.rows import KernelRow
from simulator.validation.kernels.skew import balanced, skewed
from simulator.validation.kinds import shipped as files
from simulator.validation.rows import MeasurementError
from simulator.validation.validation import Validation, validate

H100: Profile = Catalogue().load("h100-sxm-8")
LIBRARY: Library = load_library("trtllm-1.3")
KERNELS = LIBRARY.on["H100 SXM5 80GB"]
BF16: ProductKernel = KERNELS.products["bf16"]
PEAK, BANDWIDTH = 989.4e12, 3.35e12

sizes = st.integers(1, 20_000).map(float)


@pytest.fixture(scope="module")
def found() -> Validation:
    return validate(kernels=True)


def bf16(m: float, n: float, k: float, kernel: ProductKernel = BF16) -> float:
    return float(product_seconds(m, n, k, 2.0, PEAK, kernel, H100))


def test_a_large_product_runs_at_the_plateau() -> None:
    assert bf16(32768, 16384, 16384) == pytest.approx(2 * 32768 * 16384**2 / (PEAK * float(BF16.plateau)), rel=0.02)


def test_one_row_streams_the_weights() -> None:
    streamed = 2 * 16384 * 16384 / (BANDWIDTH * float(BF16.streaming))
    assert bf16(1, 16384, 16384) == pytest.approx(float(BF16.launch) + streamed, rel=0.02)


def test_an_empty_machine_costs_a_launch() -> None:
    assert bf16(1, 1, 1) == pytest.approx(float(BF16.launch) + float(BF16.wave), rel=0.05)


def slow_product(m: int, n: int, k: int, rate: float, memory: float, p: float, tiling: Tiling) -> float:
    """Every candidate by hand."""
    best = float("inf")
    for rows, columns in tiling.shapes:
        for split in tiling.splits:
            if split > 1 and k / split < 256:
                continue
            height, width = rows * tiling.tile[0], columns * tiling.tile[1]
            tiles = ceil(m / height) * ceil(n / width) * split
            waves = ceil(tiles / tiling.units)
            compute = waves * 2 * height * width * (k / split) / (rate / tiling.units)
            moving = max(memory, 2 * n * k / (min(tiles, tiling.units) * tiling.unit_bandwidth))
            alone = waves * tiling.wave
            if split > 1:
                alone += 1e-6 + 8 * m * n * split / tiling.cache_bandwidth
            best = min(best, (compute**p + moving**p) ** (1 / p) + alone)
    return best


@settings(max_examples=30)
@given(sizes, sizes, sizes, st.floats(1, 6))
def test_the_best_tile_is_found(m: float, n: float, k: float, p: float) -> None:
    tiling = Tiling((64, 64), 132, 80e9, 0.2e-6, 5.5e12)
    memory = 2 * n * k / 2.7e12
    parts = product(m, n, k, 8e14, memory, p, tiling)
    fast = float(norm(parts.compute, parts.memory, p) + parts.alone)
    assert fast == pytest.approx(slow_product(int(m), int(n), int(k), 8e14, memory, p, tiling), rel=1e-9)


@settings(max_examples=30)
@given(sizes, sizes, sizes)
def test_without_tiles_it_is_the_smooth_limit(m: float, n: float, k: float) -> None:
    smooth = product(m, n, k, 8e14, 1e-5, 4.0)
    assert smooth == (2 * m * n * k / 8e14, 1e-5, 0.0)
    fine = product(m, n, k, 8e14, 1e-5, 4.0, Tiling((1, 1), 1, shapes=((1, 1),), splits=(1,)))
    assert float(fine.compute) == pytest.approx(smooth.compute, rel=1e-9)


@settings(max_examples=30)
@given(sizes, sizes, sizes, st.sampled_from([(1, 1), (2, 2)]))
def test_one_more_tile_never_slows(m: float, n: float, k: float, left: tuple[int, int]) -> None:
    def seconds(tiling: Tiling) -> float:
        parts = product(m, n, k, 8e14, 1e-6, 3.0, tiling)
        return float(norm(parts.compute, parts.memory, 3.0) + parts.alone)

    whole = Tiling((64, 64), 132, 80e9, 0.2e-6, 5.5e12)
    fewer = Tiling((64, 64), 132, 80e9, 0.2e-6, 5.5e12, tuple(s for s in whole.shapes if s != left), (1, 2))
    assert seconds(whole) <= seconds(fewer)


@settings(max_examples=30)
@given(sizes, sizes, sizes, st.floats(1.0, 4.0))
def test_groups_of_equal_rows_are_as_many_products(m: float, n: float, k: float, groups: float) -> None:
    # A wave over all groups together is never longer than one after the other.
    count = float(int(groups))
    tiling = Tiling((64, 64), 132)
    together = product(m * count, n, k, 8e14, 0.0, 3.0, tiling, groups=count)
    alone = product(m, n, k, 8e14, 0.0, 3.0, tiling)
    assert float(together.compute + together.alone) <= count * float(alone.compute + alone.alone) * (1 + 1e-9)


def test_waves_make_cliffs_and_more_units_move_them() -> None:
    tiling = Tiling((128, 128), 100, shapes=((1, 1),), splits=(1,))
    times = [float(product(m, 12800, 512, 1e15, 0.0, 4.0, tiling).compute) for m in (128, 129, 256, 257)]
    assert times[1] == times[2] == 2 * times[0]
    assert times[3] == 3 * times[0]


@given(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(1, 8))
def test_a_norm_lies_between_the_larger_and_the_sum(a: float, b: float, p: float) -> None:
    both = float(norm(a, b, p))
    assert max(a, b) * (1 - 1e-9) <= both <= (a + b) * (1 + 1e-9) + 1e-290
    assert sum(overlapped(a, {"hbm": b}, p).values()) == pytest.approx(both, rel=1e-12, abs=1e-290)


def heads(batch: float, query: float, key: float) -> Heads:
    return Heads(batch, query, key, 128.0, 2.0)


def test_a_long_prompt_runs_at_the_attention_plateau_plus_its_traffic() -> None:
    kernel, length = KERNELS.prefill[0], 131072.0
    seconds = float(prefill_seconds(heads(4, 64, 8), length, kernel, H100))
    work = 4 * 4 * 64 * 128 * length**2 / 2 / (PEAK * float(kernel.plateau))
    assert seconds == pytest.approx(work, rel=0.02)


def test_few_heads_leave_units_idle_in_prefill() -> None:
    kernel = KERNELS.prefill[0]
    one, many = (float(prefill_seconds(heads(1, h, 1), 4096.0, kernel, H100)) for h in (1, 64))
    assert many < 64 * one / 4


def test_decode_streams_the_cache() -> None:
    kernel = KERNELS.decode[0]
    seconds = float(decode_seconds(heads(64, 64, 8), 131072.0, kernel, H100))
    bytes_read = 2 * 64 * 8 * 131072 * 128 * 2
    assert seconds == pytest.approx(bytes_read / (BANDWIDTH * float(kernel.streaming)), rel=0.05)


@given(st.floats(1, 256).map(int), st.floats(1, 1e5).map(int))
def test_a_longer_context_reads_no_less(batch: int, context: int) -> None:
    kernel = KERNELS.decode[0]
    short, long = (float(decode_seconds(heads(batch, 64, 8), float(s), kernel, H100)) for s in (context, 4 * context))
    assert short <= long + float(kernel.split_overhead)


def test_a_window_bounds_what_decode_reads() -> None:
    kernel = KERNELS.decode[0]
    windowed = Heads(64.0, 64.0, 8.0, 128.0, 2.0, 1024.0)
    assert decode_seconds(windowed, 1e6, kernel, H100) == decode_seconds(windowed, 1024.0, kernel, H100)


def test_experts_weigh_what_they_touch_and_run_at_the_hot_rank() -> None:
    kernel = KERNELS.experts["bf16"]

    def seconds(tokens: float, hot: float, touched: float) -> float:
        work = Experts(tokens, 4096.0, 1536.0, 8.0, 128.0, 8.0, hot, touched)
        return float(expert_seconds(work, 2.0, PEAK, kernel, H100))

    few, all_here = seconds(1, 1.0, 1.0), seconds(1, 1.0, 16.0)
    assert all_here - few == pytest.approx(15 * 3 * 4096 * 1536 * 2 / (BANDWIDTH * float(kernel.streaming)), rel=0.05)
    assert seconds(16384, 2.0, 16.0) == pytest.approx(2 * seconds(16384, 1.0, 16.0), rel=0.1)


def test_skewed_routing_has_a_hot_rank_and_leaves_experts_alone() -> None:
    assert balanced(1024, 8, 128, 8) == (1.0, 16)
    assert balanced(1, 8, 128, 8) == (1.0, 1.0)
    hot, touched = skewed(1.2, 4096, 8, 128, 8)
    assert 1.7 < hot < 2.6  # as measured
    assert touched <= 16
    assert skewed(1.2, 4096, 8, 128, 1)[0] == pytest.approx(1.0)
    assert skewed(1.01, 4, 2, 8, 1)[1] < 8


# Sanity of the tables: H100 bf16 8192^3 is 1.4048 ms; one row of 8192 x 8192 streams at 2.73 TB/s.
def test_products_of_the_tables_that_everybody_knows() -> None:
    assert bf16(8192, 8192, 8192) == pytest.approx(1.4048e-3, rel=0.05)
    assert bf16(1, 8192, 8192) == pytest.approx(2 * 8192**2 / 2.73e12, rel=0.08)


def test_the_tables_are_met(found: Validation) -> None:
    assert found.overall.coverage == 1
    assert found.overall.median_ape is not None
    assert found.overall.median_ape < 0.06
    limits = {"gemm": 0.08, "moe": 0.15, "prefill": 0.08, "decode": 0.08, "nccl": 0.08, "engine all_reduce": 0.08}
    for metric in {p.row.metric for p in found.points if not p.row.metric.startswith("network")}:
        errors = [abs(p.error) for p in found.points if p.row.metric == metric]
        assert len(errors) > 900
        assert np.median(errors) <= next(limit for kind, limit in limits.items() if metric.startswith(kind)), metric


def test_without_a_graph_a_message_is_copied_and_the_host_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "custom_allreduce.csv"
    columns = "allreduce_dtype,num_gpus,message_size,kernel_source,backend,version,device,latency"
    line = "bfloat16,8,{},vLLM_custom_{},vllm,0.14.0,NVIDIA H100 80GB HBM3,1"
    sizes = (1024, 2**28)
    path.write_text("\n".join([columns, *(line.format(s, k) for s in sizes for k in ("graph", "eager"))]))
    mine = {(p.row.model, p.row.metric.endswith("eager")): p.simulated for p in validate([path]).points}
    short, long = ([mine[key] for key in sorted(mine) if f"message_size {size} " in key[0]] for size in sizes)
    host = load_library("vllm-0.14").on["H100 SXM5 80GB"].host
    assert host is not None
    assert max(short) == pytest.approx(float(host) * 1e3)
    assert max(long) - min(long) == pytest.approx(2 * 2 * 2**28 / (0.88 * BANDWIDTH) * 1e3)


def test_networks_of_whole_machines_are_met(found: Validation) -> None:
    networks = [p for p in found.points if p.row.metric.startswith("network")]
    assert {p.row.hardware for p in networks} == {"a100-dgx-vidur", "h100-sxm", "a100-pairs", "h100-pairs"}
    assert np.median([abs(p.error) for p in networks]) <= 0.08
    # Four chips in two pairs, joined by PCIe: no number is fitted to them.
    pairs = [abs(p.error) for p in networks if p.row.hardware == "a100-pairs"]
    assert np.median(pairs) <= 0.08


def test_a_network_says_why_it_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a100_pairwise_nvlink" / "all_reduce.csv"
    path.parent.mkdir()
    path.write_text(
        "time_stats.all_reduce.median,num_workers,size,collective,devices_per_node,max_devices_per_node\n"
        "0.05,4,2048,all_reduce,4,4\n"
        "0.35,2,67108864,all_reduce,2,4\n"
        "4.5,4,67108864,all_reduce,4,4\n"
        "9.0,8,67108864,all_reduce,4,4\n"
    )
    mine = validate([path])
    assert mine.overall.simulated == 1
    assert sorted(mine.not_simulated) == [
        "a short message, whose time is the host's launch",
        "chips with a bridge between them, which the profile lacks",
        "machines joined by another network than the profile's",
    ]


def test_a_chip_that_nobody_timed_is_predicted_from_the_others() -> None:
    left = validate(kernels=True, leave_out="chip")
    errors = [abs(p.error) for p in left.points if p.row.metric == "gemm bf16"]
    assert len(errors) == 1694 + 2 * 1936
    assert np.median(errors) <= 0.10


def test_every_library_is_read_and_every_number_has_a_source() -> None:
    assert set(library_names()) >= {"trtllm-1.3", "vllm-0.22", "nccl-2"}
    for name in library_names():
        library = load_library(name)
        assert library.name == name
        assert library.source


def test_a_fit_finds_numbers_again() -> None:
    # Rows made with known numbers, from a start that is off.
    made = jobs("trtllm-1.0", Products.shipped)[0]
    truth = {"launch": 4.2e-6, "plateau": 0.8}
    exact = made.seconds(truth)
    rows = [
        KernelRow(**{**vars(row), "value": seconds * 1e3})
        for row, seconds in zip(made.rows[::20], exact[::20], strict=True)
    ]
    again = fit([Job(made.table, made.call, rows)], list(truth))
    assert again == pytest.approx(truth, rel=0.01)


def test_an_exponent_of_1_is_a_bound_and_the_other_numbers_answer_to_it() -> None:
    """Rows made with an exponent that no norm has: the others are not fitted beside one like it."""
    made = jobs("trtllm-1.0", Products.shipped)[0]
    truth = {"overlap": 0.7, "plateau": 0.9, "streaming": 0.9}
    added = made.seconds(truth)
    rows = [
        KernelRow(**{**vars(row), "value": seconds * 1e3})
        for row, seconds in zip(made.rows[::20], added[::20], strict=True)
    ]
    job = Job(made.table, made.call, rows)
    again = fit([job], list(truth))
    assert again["overlap"] == pytest.approx(1.0)
    assert abs(np.median(job.errors(again))) < 0.02


def test_a_fit_is_written_with_rows_and_residual() -> None:
    text = fitted("trtllm-1.0", Products.shipped, date(2026, 1, 2))
    assert "fit of 2026-01-02 to 1,694 rows: median error 5." in text
    assert text.count("fit of 2026-01-02") == 1


def test_a_users_table_is_told_by_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "gemm_h100_sxm.csv"
    path.write_text(
        "version,device,kernel_source,gemm_dtype,m,n,k,latency\n"
        "1.3.0rc20,NVIDIA H100 80GB HBM3,torch_flow,bfloat16,8192,8192,8192,1.4048\n"
        "1.3.0rc20,,torch_flow,bfloat16,1,8192,8192,0.0492\n"
        "9,NVIDIA T4,torch_flow,bfloat16,1,8192,8192,0.0492\n"
        "9,NVIDIA H100 80GB HBM3,another,bfloat16,1,8192,8192,0.0492\n"
    )
    mine = validate([path])
    assert mine.overall.rows == 4
    assert mine.overall.simulated == 3
    assert all(abs(p.error) < 0.1 for p in mine.points if p.simulated is not None)
    assert list(mine.not_simulated) == ["no profile of the device"]
    assert mine.assumed == {"kernels of trtllm-1.3 on H100 SXM5 80GB": 1}


def test_what_is_wrong_in_a_table_is_told_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "gemm.csv"
    path.write_text(
        "version,device,kernel_source,gemm_dtype,m,n,k,latency\n"
        "1,NVIDIA B200,torch_flow,bfloat16,nan,1,1,1\n"
        "1,NVIDIA B200,torch_flow,bfloat16,1,1,1,0\n"
        "1,NVIDIA B200,torch_flow,bfloat16,1,1,1,-3\n"
    )
    with pytest.raises(MeasurementError) as error:
        validate([path])
    said = str(error.value)
    assert "gemm.csv:2: m 'nan' is no number" in said
    assert "gemm.csv:3: latency 0 is not positive" in said
    assert "gemm.csv:4: latency '-3' is no number" in said


def test_columns_that_a_table_lacks_are_told_once(tmp_path: Path) -> None:
    path = tmp_path / "moe.csv"
    columns = sorted(ExpertCalls.columns)
    path.write_text(",".join(columns) + "\n" + 3 * (",".join("1" for _ in columns) + "\n"))
    with pytest.raises(MeasurementError) as error:
        validate([path])
    assert str(error.value).count("no column hidden_size, inter_size") == len(str(error.value).splitlines()) == 1


def test_kernels_do_not_count_among_steps() -> None:
    shipped = {path for kind in KERNEL_TABLES.values() for path in kind.shipped}
    assert shipped == set(files(kernels=True))
    assert not shipped & set(files())
    assert sum(path.stat().st_size for path in shipped) < 400_000


def test_a_chip_without_numbers_takes_the_librarys_default(tmp_path: Path) -> None:
    path = tmp_path / "gemm.csv"
    path.write_text(
        "version,device,kernel_source,gemm_dtype,m,n,k,latency\n"
        "1.3.0,NVIDIA H200,torch_flow,bfloat16,64,8192,8192,0.04\n"
    )
    products = Products()
    groups, reasons = products.calls(products.rows([path]))
    assert not reasons
    assert groups[0][0].slot.chip == "default"
    assert groups[0][0].assumed == "kernels of trtllm-1.3 on a chip in the middle"


def test_what_was_never_timed_takes_the_nearest_chip_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "moe_h200_sxm.csv"
    path.write_text(
        "version,device,kernel_source,moe_dtype,num_tokens,hidden_size,inter_size,topk,num_experts,moe_tp_size,"
        "moe_ep_size,distribution,latency\n"
        "1.3.0,NVIDIA H200,moe_torch_flow_cutlass,bfloat16,64,4096,1536,8,128,1,8,balanced,0.2\n"
    )
    assert validate([path]).assumed == {"kernels of trtllm-1.3 on H100 SXM5 80GB": 1}


def test_a_piece_of_a_prompt_attends_to_what_came_before() -> None:
    kernel = KERNELS.prefill[0]

    def seconds(length: float, before: float, window: float = 0.0) -> float:
        return float(prefill_seconds(Heads(8.0, 64.0, 8.0, 128.0, 2.0, window), length, kernel, H100, before))

    # Two halves do the work of the whole: what they launch and carry is the same but for one launch.
    whole, halves = seconds(65536, 0), seconds(32768, 0) + seconds(32768, 32768)
    assert halves == pytest.approx(whole, rel=0.02)
    # In a window what came long before makes no difference.
    assert seconds(4096, 8192, 1024.0) == pytest.approx(seconds(4096, 65536, 1024.0), rel=1e-12)
    assert seconds(4096, 0, 1024.0) < seconds(4096, 8192, 1024.0) < seconds(4096, 8192)
