"""The answer of a plan in words; every document here is its plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simulator.report.numerals import percent, significant

RUNNERS_UP = 3


def plan_lines(document: Mapping[str, Any]) -> list[str]:
    """The fleet and its runners-up, what binds it, what more would buy, how sensitive it is, what was not possible."""
    lines = [f"{document['tried']:,} candidates tried, {document['computed']} runs simulated now", *document["losses"]]
    best = document["best"]
    if best is None:
        lines.append("no fleet keeps the SLO and the constraints")
        nearest = document["nearest"]
        if nearest:
            factor = nearest["factor"]
            by = f", by a factor of {significant(factor)} at the best" if factor is not None else ""
            lines.append(f"nearest: {nearest['name']}: {nearest['what']}{by}")
    else:
        lines += [*_fleet_lines(best), *_figure_lines(document), *_trade_lines(document)]
    lines += [f"not possible, {count}: {why}" for why, count in document["refused"].items()]
    return lines


def _fleet_lines(best: Mapping[str, Any]) -> Iterator[str]:
    """The machines of a best fleet. Spares are of all kinds of them."""
    several = best["peaks_machine"] or best["prefill_nodes"]
    spares = f" and {best['spares']} spare" if best["spares"] and not several else ""
    model = f" {best['model']}" if best.get("model") else ""
    yield (
        f"best fleet: {best['nodes']}{spares} x {best['machine']}, {best['replicas']} replicas of{model} "
        f"{best['layout']} in {best['weights']}, at most {best['max_num_seqs']} sequences each, on {best['stack']}"
    )
    if best["prefill_machine"]:
        nodes = f"{best['prefill_nodes']} x {best['prefill_machine']}" if best["prefill_nodes"] else "the same nodes"
        yield f"  prompts on {nodes}: {best['prefill_replicas']} replicas of {best['prefill_layout']}"
    if best["peaks_machine"]:
        yield (
            f"  these carry the base load, up to {significant(best['base_rate'])} requests/s; the rest is on "
            f"{best['peaks_nodes']} x {best['peaks_machine']}, {best['peaks_replicas']} replicas of "
            f"{best['peaks_layout']}"
        )
    if best["spares"] and several:
        yield f"  spare nodes of all kinds: {best['spares']}"
    if best["racks"]:
        yield f"  racks: {best['racks']}"


def _figure_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """What the best fleet takes, what it holds, what binds it."""
    best = document["best"]
    yield (
        f"  {significant(best['cost_per_mtok_usd'])} USD per million output tokens, "
        f"{significant(best['cost_per_hour_usd'])} USD an hour, "
        f"{significant(best['energy_per_output_token_j'])} J per output token, "
        f"{significant(best['average_power_w'] / 1e3)} kW on average, {significant(best['peak_power_w'] / 1e3)} kW at "
        f"the peak, {significant(best['carbon_per_mtok_kg'])} kg of CO2e per million output tokens "
        f"({document['grid']}, machines left out)"
    )
    half = document["slo_attainment_ci95"]
    at_least = "" if document["headroom_found"] else " at least"
    interval = f" ± {percent(half)}" if half is not None else ""
    yield (
        f"  at the peak {percent(document['slo_attainment'])}{interval} of the requests keep the SLO; it "
        f"holds{at_least} {significant(document['headroom'])} times the peak, "
        f"{significant(document['largest_rate'])} requests/s"
    )
    yield f"  what binds a replica: {best['binding']}"
    bound = document["binding_constraint"]
    if bound:
        yield (
            f"  what binds the plan: {bound['constraint']}; without it {bound['fleet']} would save up to "
            f"{percent(bound['saves'])} (closed form)"
        )


def _trade_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """What one more unit buys, the runners-up, and the sensitivity."""
    for unit, rate in document["buys"].items():
        yield f"  one more {unit} carries {significant(rate)} requests/s"
    for row in document["sensitivity"]:
        change = row["change"]
        said = "not possible" if change is None else f"{document['objective']} {change:+.1%}, nodes: {row['nodes']:.0f}"
        yield f"  20 % more, {row['20 % more']}: {said}"
    for row in document["runners_up"][:RUNNERS_UP]:
        peaks = f" and {row['peaks_nodes']} x {row['peaks_machine']}" if row["peaks_machine"] else ""
        prompts = f", prompts on {row['prefill_machine']}" if row["prefill_machine"] else ""
        model = f" {row['model']}" if row.get("model") else ""
        yield (
            f"runner-up: {row['nodes']} x {row['machine']}{peaks}{prompts},{model} {row['layout']} "
            f"in {row['weights']}: {significant(row['cost_per_mtok_usd'])} USD per million output tokens, "
            f"{significant(row['energy_per_output_token_j'])} J per output token, {row['chips']} chips"
        )
