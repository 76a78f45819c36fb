"""What a run costs: USD of its machines' time and of its energy."""

from __future__ import annotations

from typing import Any

from simulator.cost.money import MTOK, HourlyCost, Terms


def money_summary(
    hourly: HourlyCost | None, terms: Terms, *, seconds: float, nodes: float, joules: float, output_tokens: int
) -> dict[str, Any]:
    """The keys of a summary about money: USD of the run, per million output tokens, by component, and on what terms.

    `nodes` may be a fraction: chips that no replica uses are not paid for. All None where the machine has no price.
    """
    spent = hourly.of(seconds, nodes, joules) if hourly else None
    whole = sum(spent.values()) if spent else None
    return {
        "cost_usd": whole,
        "cost_per_mtok_usd": whole / output_tokens * MTOK if whole is not None and output_tokens else None,
        "cost_by_component_usd": spent,
        "cost_terms": {**vars(terms), "price_date": hourly.date} if hourly else None,
    }
