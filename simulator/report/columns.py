"""What a column of results is called on a chart: its name in words, and its unit."""

from __future__ import annotations

UNITS = {"ms": "ms", "s": "s", "w": "W", "j": "J", "usd": "USD", "mwh": "MWh", "bytes": "B", "b": "B"}
SPREAD = {"_ci95": "± 95 %", "_low": "10 %", "_high": "90 %"}
"""Ends of columns that a study adds: half of the interval over seeds, the ends of the band over samples."""

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
    "utilisation": "Busy (share)",
    "samples_per_s": "Samples per second (1/s)",
    "samples_per_joule": "Samples per joule (1/J)",
    "tokens_per_s": "Tokens per second (1/s)",
    "output_throughput_per_chip": "Output throughput of a chip (tokens/s)",
    "days": "Duration (days)",
    "goodput": "Goodput (share of the time)",
    "sustainable_rate": "Requests that it holds (1/s)",
    "factor": "Lead over the next (factor)",
    "share": "Samples that agree (share)",
    "requests_per_s_per_replica": "Requests of a replica (1/s)",
    "mfu": "MFU (share of peak FLOP/s)",
    "mbu": "MBU (share of peak bandwidth)",
    "link_bytes_per_output_token": "Sent by all chips for an output token (B)",
    "bisection_bytes_per_output_token": "Across the middle for an output token (B)",
    "bisection_utilisation": "Busy middle of the fabric (share of peak)",
    "nats_per_joule": "Nats for a joule",
    "nats_per_usd": "Nats for a dollar",
    "tokens_per_day": "Tokens served a day",
    "network_share": "Waiting for messages (share of a step)",
    "network_energy_per_output_token_j": "Messages' energy per output token (J)",
}
SI = {"latency": "s", "bandwidth": "B/s", "link": "B/s", "capacity": "B", "iops": "1/s", "clock": "Hz"}
WORDS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "End to end latency"}


def label(column: str) -> str:
    """'ttft_p99_ms' -> 'TTFT p99 (ms)'; a key of a scenario keeps its own name."""
    if column in NAMES:
        return NAMES[column]
    for end, words in SPREAD.items():
        if column.endswith(end):
            return f"{label(column.removesuffix(end))}, {words}"
    if column.endswith('"'):  # what a machine changes: a path in its profile
        path = column.split('"')[-2]
        unit = SI.get(path.rpartition(".")[2])
        return f"{path} ({unit})" if unit else path
    if column.startswith("money.capital."):
        return f"Price of {column.removeprefix('money.capital.')} (USD)"
    if "." in column:
        return column
    parts = column.split("_")
    unit = UNITS.get(parts[-1])
    text = " ".join(WORDS.get(part, part) for part in (parts[:-1] if unit else parts))
    return f"{text} ({unit})" if unit else text
