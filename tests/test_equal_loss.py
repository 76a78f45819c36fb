"""Contenders of equal loss: the sizes that a law asks for, and what is said where no size does it."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.errors import ScenarioError
from simulator.model.quality import CHINCHILLA
from simulator.study.sweep import Sweep, sweep

SCENARIO = """\
model:
  - llama-3.1-8b
  - {base: qwen3-8b, name: wide, ffn: [{kind: dense, width: 6144, matrices: 3}]}
  - {base: qwen3-30b-a3b, name: experts, ffn: [{kind: moe, experts: 64, top_k: 8, width: 768}]}
machines: [{hardware: h200-sxm-8}]
traffic: {concurrency: 4, isl: 128, osl: 128, requests: 5}
"""
STUDY = """\
scenario: chat.yaml
evaluate: steady
axes: {traffic.concurrency: [1, 4]}
at_equal_loss:
  vary: {wide: {key: "ffn[0].width", multiple: 64}, experts: {key: "ffn[0].experts"}}
"""


def asked(tmp_path: Path, old: str = "", new: str = "") -> Sweep:
    (tmp_path / "chat.yaml").write_text(SCENARIO)
    (tmp_path / "study.yaml").write_text(STUDY.replace(old, new) if old else STUDY)
    return sweep(tmp_path / "study.yaml", tmp_path / "out")


def test_sizes_are_found_at_which_the_losses_agree(tmp_path: Path) -> None:
    found = asked(tmp_path)
    assert found.table["error"].isna().all()
    losses = found.table.groupby("model")["predicted_loss_nats"].first()
    assert len(losses) == 3
    assert losses.max() - losses.min() < 0.005
    # Dense models have one loss where they have one size (8.03 billion parameters), to the step of its width.
    assert found.table.groupby("model")["parameters_total"].first()["wide"] == pytest.approx(8.03e9, rel=0.02)
    assert losses["llama-3.1-8b"] == pytest.approx(CHINCHILLA.loss(8.03e9, 1.5e13), abs=1e-3)
    assert len(found.levels) == 1  # the models do not change with the load
    _, wide, experts = found.levels[0]
    assert wide.after % 64 == 0
    assert wide.before == 6144 < wide.after
    assert experts.after < experts.before == 64
    assert found.level_lines()[0].startswith("at equal loss")


def test_what_cannot_be_made_equal_is_said_with_every_loss(tmp_path: Path) -> None:
    asked(tmp_path)
    narrow = SCENARIO.replace("width: 6144", "width: 64")  # 64 times that is still too small
    (tmp_path / "chat.yaml").write_text(narrow)
    found = sweep(tmp_path / "study.yaml", tmp_path / "again")
    first, *others = found.level_lines()
    assert first == "the predicted losses differ:"
    assert sum("nats" in line for line in others) == 3
    assert found.levels[0][1].after == 64


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("wide: {", "wiide: {", "wide"),
        ("ffn[0].width", "ffn[0].widht", "no size ffn[0].widht"),
        ("multiple: 64", "multiple: 0", "multiple"),
    ],
)
def test_a_size_that_is_none_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ScenarioError) as failure:
        asked(tmp_path, old, new)
    assert said in str(failure.value)
