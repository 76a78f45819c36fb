"""Crossovers: the map of who wins is that of a fine grid, at fewer points, and says what it cannot decide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simulator.errors import ScenarioError
from simulator.report.map_chart import Axis, Field, draw_map
from simulator.study.confirm import Edge, far_apart
from simulator.study.crossover import Map, crossover
from simulator.study.folder import write_map

SCENARIO = """\
model: gpt-oss-20b
machines: [{hardware: h100-sxm-8, tp: 1}, {hardware: m3-ultra}]
traffic: {request_rate: 1 /s, isl: 512, osl: 128, requests: 10}
money: {basis: capital}
"""
STUDY = """\
study: crossover
scenario: chat.yaml
metric: cost_per_mtok_usd
axes:
  traffic.request_rate: {log: [0.05 /s, 10 /s]}
  traffic.isl: {log: [64, 4096]}
grid: 5
refine: 2
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "chat.yaml").write_text(SCENARIO)
    (tmp_path / "map.yaml").write_text(STUDY)
    return tmp_path / "map.yaml"


def other(study: Path, old: str, new: str) -> Path:
    study.write_text(study.read_text().replace(old, new))
    return study


def test_a_refined_map_is_that_of_the_fine_grid(study: Path, tmp_path: Path) -> None:
    coarse = crossover(study, tmp_path / "a")
    fine = crossover(other(study, "grid: 5\nrefine: 2", "grid: 17\nrefine: 0"), tmp_path / "b")
    assert len(fine.winners) == 17 * 17
    assert len(coarse.winners) < len(fine.winners) / 2
    assert set(coarse.areas()) == {"h100-sxm-8", "m3-ultra"}
    both = coarse.winners.merge(fine.winners, on=["u", "v"])
    assert len(both) == len(coarse.winners)
    assert (both["winner_x"] == both["winner_y"]).all()
    for name, share in coarse.areas().items():
        assert share == pytest.approx(fine.areas()[name], abs=0.02)
    assert sum(coarse.areas().values()) == pytest.approx(1.0)
    assert (coarse.winners["factor"].dropna() >= 1.0).all()


def test_load_moves_the_prize_from_the_cheap_to_the_fast_machine(study: Path, tmp_path: Path) -> None:
    winners = crossover(study, tmp_path / "a").winners
    assert set(winners[winners["u"] == 0]["winner"]) == {"m3-ultra"}
    most = winners[winners["u"] == 1]
    assert (most["winner"] == "h100-sxm-8").mean() > 0.5


def test_who_breaks_the_condition_does_not_count(study: Path, tmp_path: Path) -> None:
    strict = crossover(other(study, "grid: 5", "within: tpot_mean_ms <= 7\ngrid: 5"), tmp_path / "a")
    assert "m3-ultra" not in strict.areas()
    nobody = crossover(other(study, "<= 7", "<= 0.001"), tmp_path / "b")
    assert nobody.areas() == {"": 1.0}
    nobody.plot()


def test_samples_say_how_sure_the_map_is(study: Path, tmp_path: Path) -> None:
    found = crossover(study, tmp_path / "a", samples=6)
    shares = found.winners["share"].dropna()
    assert shares.between(0, 1).all()
    assert shares.max() == 1.0


def test_the_folder_holds_the_map_and_a_page(study: Path, tmp_path: Path) -> None:
    found: Map = crossover(study, tmp_path / "out")
    write_map(found, study, tmp_path / "out")
    document = json.loads((tmp_path / "out" / "study.json").read_text())
    assert document["areas"] == pytest.approx(found.areas())
    assert "<svg" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "plots" / "map.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  traffic.isl: {log: [64, 4096]}\n", "", "2"),
        ("{log: [64, 4096]}", "[64, 4096]", "should be a mapping"),
        ("cost_per_mtok_usd", "cost_per_mtok", "cost_per_mtok_usd"),
        ("traffic.isl", "traffic.islands", "islands"),
        ("grid: 5", "within: tpot_mean <= 7\ngrid: 5", "within"),
    ],
)
def test_a_map_that_is_wrong_says_so(study: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ScenarioError) as failure:
        crossover(other(study, old, new), tmp_path / "a")
    assert said in str(failure.value)


def test_a_boundary_lies_where_two_contenders_are_level() -> None:
    """Values u and 0.3 at the nodes of a grid: the contours of the picture meet at u = 0.3."""
    place = np.array([(u, v) for u in np.linspace(0.1, 1, 10) for v in (0.0, 1.0)])
    values = np.stack([place[:, 0], np.full(len(place), 0.3)], axis=1)
    field = Field(place, ("a", "b"), values, np.full(len(place), np.nan), more_is_better=False)
    figure = draw_map(field, [Axis("x", 0.0, 1.0, False), Axis("y", 0.0, 1.0, False)], "cost_per_mtok_usd")
    picture = figure.axes[0].collections[0].get_array()
    row = np.asarray(picture)[120]
    change = np.flatnonzero(np.abs(np.diff(row, axis=0)).sum(axis=-1))
    assert (change + 1) / len(row) == pytest.approx([0.3], abs=0.01)


def test_a_contender_that_drops_out_wins_nowhere_beside_its_last_node() -> None:
    """a is ahead at every node and grows steeply; b counts up to u = 0.5. Past its last node its value is a guess."""
    place = np.array([(u, v) for u in np.linspace(0, 1, 5) for v in (0.0, 1.0)])
    a = np.exp(8.0 * place[:, 0])
    values = np.stack([a, np.where(place[:, 0] <= 0.5, 1.2 * a, np.nan)], axis=1)
    field = Field(place, ("a", "b"), values, np.full(len(place), np.nan), more_is_better=False)
    figure = draw_map(field, [Axis("x", 0.0, 1.0, False), Axis("y", 0.0, 1.0, False)], "cost_per_mtok_usd")
    picture = np.asarray(figure.axes[0].collections[0].get_array())
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 1


PRICES = """\
study: crossover
scenario: chat.yaml
axes:
  money.capital.m3-ultra: {log: [2000 USD, 200000 USD]}
  traffic.isl: {log: [64, 1024]}
grid: 3
refine: 2
confirm: {points: 2, replications: 2, requests: 120}
"""


def test_events_put_a_border_of_prices_where_the_closed_form_has_it(study: Path, tmp_path: Path) -> None:
    """A machine loses as it gets dearer: at the price at which both cost the same, by either way."""
    study.write_text(PRICES)
    found = crossover(study, tmp_path / "out")
    asked = found.confirmed
    assert asked is not None
    assert len(asked) == 2
    assert asked["agrees"].all()
    assert (asked["along"] == "money.capital.m3-ultra").all()
    assert ((asked["from"] <= asked["steady"]) & (asked["steady"] <= asked["to"])).all()
    assert (asked["events"] / asked["steady"]).to_numpy() == pytest.approx(1.0, abs=0.15)
    assert (asked["events_low"] <= asked["events"]).all()
    write_map(found, study, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "study.json").read_text())["confirmed"]
    assert [place["agrees"] for place in told] == [True] * 2
    assert "borders confirmed by events: 2 of 2 places" in (tmp_path / "out" / "report.html").read_text()
    kept = (tmp_path / "out" / "points.jsonl").read_text()
    assert crossover(study, tmp_path / "out").confirmed.equals(asked)  # type: ignore[union-attr]
    assert (tmp_path / "out" / "points.jsonl").read_text() == kept


def test_a_border_beyond_which_a_machine_is_saturated_is_confirmed_by_who_is_left(study: Path, tmp_path: Path) -> None:
    asked = crossover(
        other(study, "grid: 5\nrefine: 2", "grid: 3\nrefine: 1\nconfirm: {points: 1, replications: 2, requests: 800}"),
        tmp_path / "a",
    ).confirmed
    assert asked is not None
    assert asked[["below", "above"]].iloc[0].tolist() == ["m3-ultra", "h100-sxm-8"]
    assert asked["steady"].isna().all()
    assert asked["agrees"].all()


def test_places_to_confirm_lie_far_from_each_other() -> None:
    edges = [Edge((x / 10, 0.0), (x / 10, 0.1), "a", "b") for x in range(11)]
    assert [edge.low[0] for edge in far_apart(edges, 3)] == [0.0, 1.0, 0.5]
    assert len(set(far_apart(edges, 99))) == 11
    assert far_apart([], 3) == []


def test_a_map_by_events_needs_no_confirmation(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="leave out confirm"):
        crossover(other(study, "grid: 5", "evaluate: events\nconfirm: 3\ngrid: 5"), tmp_path / "a")


def test_a_map_without_a_border_has_nothing_to_confirm(study: Path, tmp_path: Path) -> None:
    study.write_text(PRICES.replace("200000 USD", "3000 USD").replace("[2000", "[2500"))
    found = crossover(study, tmp_path / "out")
    assert len(found.areas()) == 1
    assert found.confirmed is not None
    assert found.confirmed.empty
    write_map(found, study, tmp_path / "out")
    assert "no border to confirm" in (tmp_path / "out" / "report.html").read_text()


def test_what_has_no_steady_state_is_not_confirmed(study: Path, tmp_path: Path) -> None:
    study.write_text(
        "study: crossover\nscenario: essay-gpt3\nconfirm: 2\n"
        "axes:\n  tokens: {log: [1e9, 1e11]}\n  machines[0].chips: {log: [512, 1024]}\n"
    )
    with pytest.raises(ScenarioError, match="confirm asks events beside steady states"):
        crossover(study, tmp_path / "out")


def test_contenders_of_one_name_are_refused(study: Path, tmp_path: Path) -> None:
    scenario = study.parent / "chat.yaml"
    scenario.write_text(SCENARIO.replace("{hardware: m3-ultra}", "{hardware: h100-sxm-8, tp: 2}, {hardware: m3-ultra}"))
    with pytest.raises(ScenarioError, match="'gpt-oss-20b' on 'h100-sxm-8' is there twice"):
        crossover(study, tmp_path / "a")
