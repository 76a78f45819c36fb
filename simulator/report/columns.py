"""What a column of results is called on a chart: its name in words, and its unit."""

from __future__ import annotations

UNITS = {"ms": "ms", "s": "s", "w": "W", "j": "J", "usd": "USD"}
NAMES = {
    "output_throughput": "Output throughput (tokens/s)",
    "total_token_throughput": "Prompt and output throughput (tokens/s)",
    "request_throughput": "Requests completed (1/s)",
    "request_goodput": "Requests within the SLO (1/s)",
    "energy_per_output_token_j": "Energy per output token (J)",
    "cost_per_mtok_usd": "Cost per million output tokens (USD)",
    "average_power_w": "Average power (W)",
    "slo_attainment": "Requests within the SLO (share)",
    "traffic.request_rate": "Requests per second",
    "traffic.concurrency": "Requests in flight",
    "traffic.isl": "Input tokens of a request",
    "traffic.osl": "Output tokens of a request",
    "traffic.speed": "Speed of the trace",
    "limits.max_num_seqs": "Largest batch",
    "mfu": "MFU (share of peak FLOP/s)",
    "mbu": "MBU (share of peak bandwidth)",
}
SI = {"latency": "s", "bandwidth": "B/s", "link": "B/s", "capacity": "B", "iops": "1/s", "clock": "Hz"}
WORDS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "End to end latency"}


def label(column: str) -> str:
    """'ttft_p99_ms' -> 'TTFT p99 (ms)'; a key of a scenario keeps its own name."""
    if column in NAMES:
        return NAMES[column]
    if column.endswith('"'):  # what a machine changes: a path in its profile
        path = column.split('"')[-2]
        unit = SI.get(path.rpartition(".")[2])
        return f"{path} ({unit})" if unit else path
    if column.startswith("money.capital."):
        return f"Price of {column.removeprefix('money.capital.')} (USD)"
    if "." in column:
        return column
    words = column.split("_")
    unit = UNITS.get(words[-1])
    text = " ".join(WORDS.get(word, word) for word in (words[:-1] if unit else words))
    return f"{text} ({unit})" if unit else text
