"""Quantities: what may be written, what is refused, and that a number keeps its provenance."""

from __future__ import annotations

import copy
import pickle
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from simulator import quantity as q
from simulator.quantity import Known, QuantityError, format_quantity, quantity
from simulator.strict import Strict


class Link(Strict):
    bandwidth: q.Bandwidth
    latency: q.Seconds = Known(600e-9, unit="s")
    usable: q.Fraction = Known(1.0, unit="")


def read(unit: str, text: Any, **limits: Any) -> Known:
    return quantity(unit, **limits).read(text)


@pytest.mark.parametrize(
    ("unit", "text", "value"),
    [
        ("B", "80 GB", 80e9),
        ("B", "2 TiB", 2 * 2**40),
        ("B", "50KB", 50e3),
        ("B", "64 B", 64),
        ("B/s", "3.35 TB/s", 3.35e12),
        ("B/s", "3.35e12 B/s", 3.35e12),
        ("B/s", "3 GiB/s", 3 * 2**30),
        ("B/s", "400 Gbit/s", 50e9),
        ("s", "600 ns", 600e-9),
        ("s", "5 us", 5e-6),
        ("s", "5 µs", 5e-6),
        ("s", "5 min", 300),
        ("s", "5 ms", 5e-3),
        ("s", "2 h", 7200),
        ("s", "1 day", 86_400),
        ("s", "2 weeks", 1_209_600),
        ("s", "4 years", 4 * 8760 * 3600),
        ("Hz", "1.83 GHz", 1.83e9),
        ("FLOP/s", "1.979 PFLOP/s", 1.979e15),
        ("FLOP/s", "989 TFLOPS", 989e12),
        ("FLOP/s", "200 TOPS", 200e12),
        ("W", "0.7 kW", 700),
        ("J", "1 kWh", 3.6e6),
        ("J/FLOP", "0.81 pJ/FLOP", 0.81e-12),
        ("J/B", "114 pJ/B", 114e-12),
        ("J/B", "4 pJ/bit", 32e-12),
        ("/s", "5 /s", 5),
        ("/s", "5/s", 5),
        ("/s", "300 /min", 5),
        ("/s", "18000 req/h", 5),
        ("/s", "5 req/s", 5),
        ("USD", "30 kUSD", 30_000),
        ("USD/h", "2.5 USD/h", 2.5),
        ("USD/h", "48 USD/day", 2),
        ("USD/J", "0.36 USD/kWh", 1e-7),
        ("USD/B", "10 USD/GB", 1e-8),
        ("", 0.9, 0.9),
        ("", 2, 2),
    ],
)
def test_a_quantity_is_read_in_si(unit: str, text: Any, value: float) -> None:
    known = read(unit, text)
    assert known == pytest.approx(value, rel=1e-15)
    assert known.unit == unit


@pytest.mark.parametrize(
    ("unit", "text", "what"),
    [
        ("B/s", 3.35, "3.35 has no unit, B/s is needed"),
        ("B/s", "3.35", "'3.35' has no unit"),
        ("B/s", "3.35 T", "'3.35 T' has no unit"),
        ("B/s", "80 GB", "'80 GB' is in 'GB', but B/s is needed"),
        ("B/s", "400 Gb/s", "could be bits or bytes"),
        ("s", "5 m", "'5 m' has no unit"),
        ("s", "5 months", "is in 'months', but s is needed"),
        ("Hz", "3 hz", "is in 'hz', but Hz is needed (spelled 'Hz')"),
        ("B", "nan GB", "is not a finite number"),
        ("B", "inf GB", "is not a finite number"),
        ("B", "-.inf GB", "is not a finite number"),
        ("B", "1e999 GB", "is not a finite number"),
        ("B", "-1 GB", "is not more than zero"),
        ("B", "0 B", "is not more than zero"),
        ("B", "GB", "is not a quantity"),
        ("B", "size = 3 GB", "is not a quantity"),
        ("B", "3 4 GB", "is not a quantity"),
        ("B", "", "is not a quantity"),
        ("B", None, "nothing is not a quantity"),
        ("B", True, "true is not a quantity"),
        ("B", [1], "a list is not a quantity"),
        ("", "0.9", "is text, a plain number is needed"),
        ("", float("nan"), "is not a finite number"),
        ("", 10**400, "is not a finite number"),
        ("B", Known(1.0, unit="s"), "1.0 is in 's', but B is needed"),
    ],
)
def test_anything_else_is_refused(unit: str, text: Any, what: str) -> None:
    with pytest.raises(QuantityError) as caught:
        read(unit, text)
    assert what in caught.value.what
    assert caught.value.example == quantity(unit).example


def test_zero_and_limits_are_said_by_the_field() -> None:
    assert read("s", "0 s", zero=True) == 0
    with pytest.raises(QuantityError, match="not zero or more"):
        read("s", "-1 s", zero=True)
    for kind, good, bad in ((q.Fraction, 1, 0), (q.Fraction, 0.5, 1.01), (q.Share, 0, -0.1), (q.Ratio, 7.5, 0)):
        adapter = TypeAdapter(kind)
        assert adapter.validate_python(good) == good
        with pytest.raises(ValidationError):
            adapter.validate_python(bad)


def test_the_long_form_says_where_a_number_is_from() -> None:
    link = Link.model_validate(
        {
            "bandwidth": {
                "value": "3.35 TB/s",
                "label": "datasheet",
                "source": "NVIDIA H100 SXM5 datasheet",
                "range": ["3 TB/s", "3.4 TB/s"],
            },
            "usable": {"value": 0.9, "label": "estimated"},
        }
    )
    assert link.bandwidth == 3.35e12
    assert (link.bandwidth.label, link.bandwidth.source) == ("datasheet", "NVIDIA H100 SXM5 datasheet")
    assert link.bandwidth.range == (3e12, 3.4e12)
    assert link.usable.label == "estimated"


@pytest.mark.parametrize(
    ("given", "location"),
    [
        ({"label": "measured"}, ("bandwidth", "value")),
        ({"value": "3 TB/s", "lable": "measured"}, ("bandwidth", "lable")),
        ({"value": "3 TB/s", "label": "guessed"}, ("bandwidth", "label")),
        ({"value": "3 TB/s", "range": ["4 TB/s", "5 TB/s"]}, ("bandwidth",)),
        ({"value": "3 TB/s", "range": ["2 TB/s", "5"]}, ("bandwidth", "range", 1)),
        ({"value": 3}, ("bandwidth", "value")),
    ],
)
def test_what_is_wrong_in_the_long_form_has_its_place(given: dict[str, Any], location: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        Link.model_validate({"bandwidth": given})
    assert [error["loc"] for error in caught.value.errors()] == [location]


def test_a_known_survives_dumping_pickling_and_copying() -> None:
    given = {"value": "3.35 TB/s", "label": "measured", "source": "a paper", "range": ["3 TB/s", "3.4 TB/s"]}
    link = Link.model_validate({"bandwidth": given})
    others = [
        Link.model_validate(link.model_dump()),
        Link.model_validate_json(link.model_dump_json()),
        pickle.loads(pickle.dumps(link)),
        copy.deepcopy(link),
    ]
    for other in others:
        assert other == link
        assert hash(other) == hash(link)
        for name in ("label", "source", "range", "unit"):
            assert getattr(other.bandwidth, name) == getattr(link.bandwidth, name)


@given(st.floats(min_value=1e-30, max_value=1e30))
def test_json_reads_back_to_the_same_bits(value: float) -> None:
    link = Link(bandwidth=Known(value))
    assert Link.model_validate_json(link.model_dump_json()).bandwidth == value


def test_arithmetic_gives_plain_floats() -> None:
    half = Known(3.0, "measured") / 2
    assert (type(half), half) == (float, 1.5)


def test_json_schema_shows_both_forms() -> None:
    schema = Link.model_json_schema()["properties"]
    text, mapping = schema["bandwidth"]["anyOf"]
    assert text["type"] == "string"
    assert text["examples"] == ["3.35 TB/s"]
    assert "B/s" in text["description"]
    assert mapping["required"] == ["value"]
    assert set(mapping["properties"]) == {"value", "label", "source", "range"}
    assert schema["latency"]["default"] == "6e-07 s"
    assert schema["usable"]["anyOf"][0] == {"type": "number", "exclusiveMinimum": 0, "maximum": 1.0, "examples": [0.9]}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.35e12, "B/s", "3.35 TB/s"),
        (1.979e15, "FLOP/s", "1.979 PFLOP/s"),
        (6e-7, "s", "600 ns"),
        (3502, "s", "3502 s"),
        (0, "s", "0 s"),
        (114e-12, "J/B", "114 pJ/B"),
        (447_716, "USD", "447716 USD"),
        (12.5, "/s", "12.5 /s"),
        (0.9, "", "0.9"),
    ],
)
def test_a_quantity_is_shown_as_people_write_it(value: float, unit: str, text: str) -> None:
    assert format_quantity(value, unit) == text


class Counts(Strict):
    count: int = 1
    wrap: bool = False
    share: float = 0.5
    shape: tuple[int, ...] = ()
    names: dict[str, float] | None = None
    either: Annotated[int | bool, "either"] = 1


def test_whole_numbers_may_be_written_as_2e7() -> None:
    counts = Counts.model_validate({"count": 2.4e7, "shape": [1, 2.0], "share": 1})
    assert (counts.count, counts.shape, counts.share) == (24_000_000, (1, 2), 1.0)


@pytest.mark.parametrize(
    "given",
    [
        {"count": "4"},
        {"count": True},
        {"count": 2.5},
        {"wrap": "no"},
        {"wrap": 0},
        {"share": "0.5"},
        {"share": True},
        {"share": float("nan")},
        {"share": float("inf")},
        {"shape": ["1"]},
        {"names": {"a": "1"}},
        {"either": "yes"},
        {"cuont": 1},
    ],
)
def test_text_is_no_number_and_no_truth_value(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Counts.model_validate(given)
