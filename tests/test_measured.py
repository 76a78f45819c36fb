"""Measured rows, most of them of batch 1: the time of a decode step, where nothing queues."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.scenario import Scenario
from simulator.serve import run
from simulator.validation.predict import READINGS, predict
from simulator.validation.question import Interpreter
from simulator.validation.rows import measurements
from simulator.validation.steps import Step
from simulator.yaml_source import parse_yaml, validate

SCENARIO = """
model: {model}
machines: [{{hardware: {hardware}, tp: {tp}, stack: {stack}, precision: {{weights: {weights}}}}}]
traffic: {{concurrency: 1, isl: {isl}, osl: {osl}, requests: 1}}
limits: {{max_num_seqs: 1, max_num_batched_tokens: 4096}}
"""


def alone(model: str, hardware: str, stack: str, tp: int, weights: str, isl: int, osl: int) -> dict[str, Any]:
    """Summary of a single request that has the machine to itself."""
    source = parse_yaml(SCENARIO.format(**locals()), "scenario")
    return run(validate(Scenario, source), source).runs[0].summary


# gpt-fast README (meta-pytorch/gpt-fast), A100 80 GB, batch 1, prompt of about 5 tokens, 200 tokens out, tokens/s.
# Left out: Llama-3.1-70B at TP2 (GPTFAST-0018, 16.03), where Llama-2-70B of the same shape is a third faster.
GPT_FAST = (
    ("GPTFAST-0012", "llama-2-70b", 2, "bf16", 21.32),
    ("GPTFAST-0013", "llama-2-70b", 4, "bf16", 38.01),
    ("GPTFAST-0014", "llama-2-70b", 8, "bf16", 62.50),
    ("GPTFAST-0004", "llama-2-70b", 1, "int8", 19.13),
    ("GPTFAST-0021", "llama-2-70b", 8, "int8", 80.44),
    ("GPTFAST-0005", "llama-2-70b", 1, "int4", 25.25),
    ("GPTFAST-0022", "llama-2-70b", 8, "int4", 90.77),
    ("GPTFAST-0020", "llama-3.1-70b", 8, "bf16", 58.78),
    ("GPTFAST-0008", "llama-3.1-70b", 1, "int8", 18.04),
    ("GPTFAST-0001", "llama-2-7b", 1, "bf16", 104.9),
    ("GPTFAST-0006", "llama-3.1-8b", 1, "bf16", 93.89),
    ("GPTFAST-0027", "mixtral-8x7b", 2, "bf16", 96.67),
    ("GPTFAST-0029", "mixtral-8x7b", 8, "bf16", 227.82),
)


@pytest.mark.parametrize(("row", "model", "tp", "weights", "tokens_per_s"), GPT_FAST)
def test_gpt_fast_on_a100(row: str, model: str, tp: int, weights: str, tokens_per_s: float) -> None:
    summary = alone(model, "a100-sxm-80g-8", "gpt-fast-2023", tp, weights, 5, 200)
    assert 1e3 / summary["tpot_mean_ms"] == pytest.approx(tokens_per_s, rel=0.15), row


# Argonne LLM-Inference-Bench (arXiv 2411.00136, All_results.csv), 70B models at fp16, TP4, batch 1, as many tokens
# out as in: latency of the whole request, s.
ARGONNE = (
    ("LLMIB-0525", "tensorrt-llm-2024", "a100-sxm-40g-8", "llama-2-70b", 128, 4.24008),
    ("LLMIB-0526", "tensorrt-llm-2024", "a100-sxm-40g-8", "llama-2-70b", 256, 8.53773),
    ("LLMIB-0527", "tensorrt-llm-2024", "a100-sxm-40g-8", "llama-2-70b", 512, 17.29774),
    ("LLMIB-0528", "tensorrt-llm-2024", "a100-sxm-40g-8", "llama-2-70b", 1024, 35.36655),
    ("LLMIB-0529", "tensorrt-llm-2024", "a100-sxm-40g-8", "llama-2-70b", 2048, 73.73752),
    ("LLMIB-0901", "tensorrt-llm-2024", "h100-sxm-8", "llama-2-70b", 128, 2.30881),
    ("LLMIB-0905", "tensorrt-llm-2024", "h100-sxm-8", "llama-2-70b", 256, 4.60212),
    ("LLMIB-0909", "tensorrt-llm-2024", "h100-sxm-8", "llama-2-70b", 512, 9.47124),
    ("LLMIB-0913", "tensorrt-llm-2024", "h100-sxm-8", "llama-2-70b", 1024, 19.74079),
    ("LLMIB-0917", "tensorrt-llm-2024", "h100-sxm-8", "llama-2-70b", 2048, 41.42006),
    ("LLMIB-0972", "tensorrt-llm-2024", "h100-sxm-8", "llama-3.1-70b", 128, 2.31234),
    ("LLMIB-0988", "tensorrt-llm-2024", "h100-sxm-8", "llama-3.1-70b", 2048, 41.88828),
    ("LLMIB-0765", "vllm-2024", "a100-sxm-40g-8", "llama-2-70b", 128, 4.28521),
    ("LLMIB-0767", "vllm-2024", "a100-sxm-40g-8", "llama-2-70b", 512, 17.16453),
    ("LLMIB-0769", "vllm-2024", "a100-sxm-40g-8", "llama-2-70b", 2048, 68.83534),
    ("LLMIB-1180", "vllm-2024", "h100-sxm-8", "llama-2-70b", 128, 2.37027),
    ("LLMIB-1188", "vllm-2024", "h100-sxm-8", "llama-2-70b", 512, 9.50247),
    ("LLMIB-1196", "vllm-2024", "h100-sxm-8", "llama-2-70b", 2048, 38.02341),
    ("LLMIB-1260", "vllm-2024", "h100-sxm-8", "llama-3.1-70b", 128, 2.46240),
    ("LLMIB-1276", "vllm-2024", "h100-sxm-8", "llama-3.1-70b", 2048, 39.29974),
)


@pytest.mark.parametrize(("row", "stack", "hardware", "model", "tokens", "latency_s"), ARGONNE)
def test_70b_models_alone_on_four_gpus(
    row: str, stack: str, hardware: str, model: str, tokens: int, latency_s: float
) -> None:
    # vllm-2024 is one stack for both chips; fitted to each alone it streams weights at 0.86 (A100) and 0.97 (H100).
    tolerance = 0.20 if (stack, hardware) == ("vllm-2024", "h100-sxm-8") else 0.15
    summary = alone(model, hardware, stack, 4, "fp16", tokens, tokens)
    assert summary["e2el_mean_ms"] / 1e3 == pytest.approx(latency_s, rel=tolerance), row


@pytest.mark.parametrize(("row", "turns", "prompts"), [("FT-0068", 3, 16), ("FT-0071", 4, 16), ("FT-0105", 3, 1)])
def test_a_static_batch_fills_and_drains_the_stages_of_fastertransformer(row: str, turns: int, prompts: int) -> None:
    """Parts of 2,048 tokens pass three stages, m + 2 turns of a stage; decode steps are too small to be cut."""
    rows = {each.id: each for each in measurements()}
    asked = Interpreter().ask(rows[row])
    stages = asked.machine.parallelism.pp
    first, rest = READINGS[asked.reading].parts(asked)
    if stages == 1:
        assert first == (1.0, Step(prompts=asked.batch, length=asked.input_tokens))
        return
    assert first == (pytest.approx(turns / stages), Step(prompts=stages * prompts, length=asked.input_tokens))
    assert rest == (asked.output_tokens - 1, Step(decoding=stages * asked.batch, context=asked.context))
    seconds = predict([asked])[row]
    assert isinstance(seconds, float)
    assert seconds == pytest.approx(rows[row].value, rel=0.15)
