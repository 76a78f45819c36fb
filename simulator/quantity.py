"""Quantities with units: "3.35 TB/s" in YAML becomes a float in SI that remembers where it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from typing import Annotated, Any, Literal, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema
from quantiphy import QuantiPhyError, Quantity

from simulator.errors import nearest

Label = Literal["measured", "calibrated", "datasheet", "estimated"]
"""How a number is known, the strongest first."""

LABELS: tuple[str, ...] = get_args(Label)

_MINUTE, _HOUR, _DAY, _WEEK, _YEAR = 60.0, 3600.0, 86_400.0, 604_800.0, 31_536_000.0  # a year of 365 days, as in bills
_TIMES = {
    **dict.fromkeys(("min", "minute", "minutes"), _MINUTE),
    **dict.fromkeys(("h", "hour", "hours"), _HOUR),
    **dict.fromkeys(("day", "days"), _DAY),
    **dict.fromkeys(("week", "weeks"), _WEEK),
    **dict.fromkeys(("year", "years"), _YEAR),
}
_GIGA = {"G": 1e9, "Gi": 2.0**30, "T": 1e12, "Ti": 2.0**40}
_NUMBER = re.compile(
    r"\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?\.?(?:inf|nan)\b)\s*(?P<unit>.*?)\s*", re.IGNORECASE
)


_OWN_NUMBER = ("s", "/s", "W", "USD", "USD/h")
"""Units that people use without a prefix: the mend for a bare number then repeats their own number."""


class Known(float):
    """A float that remembers its label, source, (low, high) range and unit. Arithmetic on it gives plain floats."""

    __slots__ = ("label", "range", "source", "unit")

    label: str | None
    source: str | None
    range: tuple[float, float] | None
    unit: str | None

    def __new__(
        cls,
        value: float,
        label: str | None = None,
        source: str | None = None,
        range: tuple[float, float] | None = None,
        unit: str | None = None,
    ) -> Known:
        self = super().__new__(cls, value)
        self.label, self.source, self.range, self.unit = label, source, range, unit
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (float(self), self.label, self.source, self.range, self.unit)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Lets JSON Schema show a Known that stands as a default; a field's type is Annotated, see `quantity`."""
        return core_schema.is_instance_schema(
            cls, serialization=core_schema.plain_serializer_function_ser_schema(_written, info_arg=True)
        )


def _written(value: Known, info: core_schema.SerializationInfo) -> Any:
    """What model_dump holds: the Known itself, or in JSON what reads back to the same bits."""
    if info.mode != "json":
        return value

    def text(number: float) -> Any:
        return f"{float(number)!r} {value.unit}" if value.unit else float(number)

    given = {"value": text(value)}
    if value.label:
        given["label"] = value.label
    if value.source:
        given["source"] = value.source
    if value.range:
        given["range"] = [text(end) for end in value.range]
    return given if len(given) > 1 else given["value"]


class QuantityError(ValueError):
    """`what` is wrong with a quantity, and an `example` of a right one."""

    def __init__(self, what: str, example: str) -> None:
        super().__init__(f"{what}, write for example '{example}'")
        self.what = what
        self.example = example


class _Reader(Quantity):
    """quantiphy with only those prefixes that this field uses (its c, d, r, y and others would eat first letters)."""


_Reader.set_prefs(input_sf="EPTGMKkmuµnpf", output_sf="EPTGMkmunpf")


@dataclass(frozen=True)
class Unit:
    """What may be written beside the SI unit, with factors: `prefixed` takes an SI or binary prefix, `words` none."""

    example: str
    prefixed: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, float] = field(default_factory=dict)


UNITS: dict[str, Unit] = {
    "B": Unit("80 GB"),
    "B/s": Unit("3.35 TB/s", {"bit/s": 1 / 8}),
    "s": Unit("600 ns", words=_TIMES),
    "Hz": Unit("1.83 GHz"),
    "FLOP/s": Unit("989 TFLOP/s", {"FLOPS": 1.0, "OP/s": 1.0, "OPS": 1.0}),
    "W": Unit("700 W"),
    "J": Unit("5 kJ", {"Wh": _HOUR}),
    "J/FLOP": Unit("0.81 pJ/FLOP", {"J/OP": 1.0}),
    "J/B": Unit("114 pJ/B", {"J/bit": 8.0}),
    "/s": Unit(
        "5 /s",
        {"req/s": 1.0, "requests/s": 1.0},
        {
            f"{noun}/{time}": 1.0 / seconds
            for noun in ("", "req", "requests")
            for time, seconds in (("min", _MINUTE), ("h", _HOUR), ("day", _DAY), ("week", _WEEK), ("year", _YEAR))
        },
    ),
    "USD": Unit("40000 USD"),
    "USD/h": Unit("2.5 USD/h", words={"USD/day": 1 / 24, "USD/week": 1 / 168, "USD/year": 1 / 8760}),
    "USD/B": Unit("10.9 USD/GB", words={f"USD/{p}B": 1.0 / size for p, size in _GIGA.items()}),
    "kg/J": Unit("0.4 kg/kWh", words={"kg/kWh": 1 / (1000 * _HOUR), "g/kWh": 1e-6 / _HOUR}),
    "USD/J": Unit("0.1 USD/kWh", words={"USD/kWh": 1 / (1000 * _HOUR), "USD/MWh": 1e-6 / _HOUR}),
}
"""Unit of a field -> how it may be written. K means k (1000) as in '50 KB'; Ki, Mi, Gi, Ti are binary."""


LEAST, MOST = 1e-30, 1e30
"""Bounds on every quantity in SI: beyond them a number is a slip of the pen, and products of it overflow."""


@dataclass(frozen=True)
class QuantityType:
    """What makes `Annotated[Known, quantity(unit)]` a pydantic field. Numbers are > 0 (>= 0 with `zero`), <= `most`."""

    unit: str
    zero: bool = False
    most: float | None = None
    example: str = ""

    def read(self, given: Any) -> Known:
        """Text such as '3.35 TB/s' (a bare number when the unit is '') as a Known in SI.

        Raises: QuantityError.
        """
        if isinstance(given, Known) and given.unit in (None, self.unit):
            return self._checked(Known(given, given.label, given.source, given.range, self.unit), str(float(given)))
        if isinstance(given, bool) or not isinstance(given, int | float | str):
            raise QuantityError(f"{_shown(given)} is not a quantity", self.example)
        if isinstance(given, Known):
            raise self._wrong_unit(str(float(given)), given.unit or "")
        if not isinstance(given, str):
            if self.unit:
                own = self.unit in _OWN_NUMBER and 0 < given < MOST
                example = f"{given:g} {self.unit}" if own else self.example
                raise QuantityError(f"{given} has no unit, {self.unit} is needed", example)
            return self._checked(Known(_float(given), unit=""), str(given))
        if not self.unit:
            raise QuantityError(f"'{given}' is text, a plain number is needed", self.example)
        return self._checked(Known(self._in_si(given), unit=self.unit), f"'{given}'")

    def _in_si(self, text: str) -> float:
        match = _NUMBER.fullmatch(text)
        if not match:
            raise QuantityError(f"'{text}' is not a quantity", self.example)
        number, unit = match["number"].removeprefix("+"), match["unit"]
        known = UNITS.get(self.unit, Unit(self.example))
        if not isfinite(float(number.replace(".inf", "inf").replace(".nan", "nan"))):
            raise QuantityError(f"'{text}' is not a finite number", self.example)
        if unit in known.words:
            return float(number) * known.words[unit]
        per = "/" + unit[1:].strip() if unit.startswith("/") else unit
        if per == self.unit or per in known.words:
            return float(number) * known.words.get(per, 1.0)
        try:
            read = _Reader(f"{number} {unit}", binary=True)
        except QuantiPhyError as error:
            raise QuantityError(f"'{text}' is not a quantity", self.example) from error
        if read.units == self.unit:
            return float(read)
        if read.units in known.prefixed:
            return float(read) * known.prefixed[read.units]
        raise self._wrong_unit(f"'{text}'", unit)

    def _wrong_unit(self, text: str, unit: str) -> QuantityError:
        if not unit or unit in "EPTGMKkmuµnpf":
            return QuantityError(f"{text} has no unit, {self.unit} is needed", self.example)
        if unit.endswith(("b", "b/s")) and self.unit in ("B", "B/s"):
            return QuantityError(f"{text} could be bits or bytes, {self.unit} is needed", self.example)
        known = UNITS.get(self.unit, Unit(self.example))
        close = nearest(unit, [self.unit, *known.words, *known.prefixed]) if unit.lower() == self.unit.lower() else None
        hint = f" (spelled '{close}')" if close else ""
        return QuantityError(f"{text} is in '{unit}', but {self.unit} is needed{hint}", self.example)

    def _checked(self, value: Known, text: str) -> Known:
        if not isfinite(value):
            raise QuantityError(f"{text} is not a finite number", self.example)
        if value < 0 or (not value and not self.zero):
            raise QuantityError(f"{text} is not {'zero or more' if self.zero else 'more than zero'}", self.example)
        if value and not LEAST <= value <= MOST:
            raise QuantityError(f"{text} is beyond all measure ({LEAST:g} to {MOST:g} in SI)", self.example)
        if self.most is not None and value > self.most:
            raise QuantityError(f"{text} is more than {self.most:g}", self.example)
        return value

    def _from_mapping(self, given: Mapping[str, Any]) -> Known:
        value = given["value"]
        low_high = given.get("range")
        if low_high is not None:
            low, high = (float(end) for end in low_high)
            if not low <= value <= high:
                raise QuantityError(
                    f"the range {format_quantity(low, self.unit)} to {format_quantity(high, self.unit)} "
                    f"does not hold the value {format_quantity(value, self.unit)}",
                    self.example,
                )
            low_high = (low, high)
        return Known(value, given.get("label"), given.get("source"), low_high, self.unit)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.no_info_plain_validator_function(self.read)
        fields = {
            "value": core_schema.typed_dict_field(text, required=True),
            "label": core_schema.typed_dict_field(core_schema.literal_schema(list(LABELS)), required=False),
            "source": core_schema.typed_dict_field(core_schema.str_schema(min_length=1), required=False),
            "range": core_schema.typed_dict_field(core_schema.tuple_schema([text, text]), required=False),
        }
        mapping = core_schema.typed_dict_schema(fields, extra_behavior="forbid")

        def read(given: Any, read_mapping: Callable[[Any], Any]) -> Known:
            return self._from_mapping(read_mapping(given)) if isinstance(given, Mapping) else self.read(given)

        return core_schema.no_info_wrap_validator_function(
            read,
            mapping,
            serialization=core_schema.plain_serializer_function_ser_schema(self._dumped, info_arg=True),
        )

    def _dumped(self, value: float, info: core_schema.SerializationInfo) -> Any:
        return _written(value if isinstance(value, Known) else Known(value, unit=self.unit), info)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        value: dict[str, Any]
        if self.unit:
            value = {
                "type": "string",
                "pattern": r"^\s*[+]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*\S+.*$",
                "description": f"a number and a unit, in {self.unit} with any SI prefix",
                "examples": [self.example],
            }
        else:
            value = {
                "type": "number",
                "minimum" if self.zero else "exclusiveMinimum": 0,
                "examples": [float(self.example)],
            }
            if self.most is not None:
                value["maximum"] = self.most
        given = {
            "type": "object",
            "properties": {
                "value": value,
                "label": {"enum": list(LABELS), "description": "how the number is known"},
                "source": {"type": "string", "minLength": 1, "description": "where the number is from"},
                "range": {"type": "array", "items": value, "minItems": 2, "maxItems": 2, "description": "low and high"},
            },
            "required": ["value"],
            "additionalProperties": False,
        }
        return {"anyOf": [value, given]}


def in_si(text: str) -> float | None:
    """A number with any of the units above, in SI and unchecked; None for other text."""
    for unit in UNITS:
        with suppress(QuantityError):
            return QuantityType(unit)._in_si(text)
    return None


def quantity(unit: str, *, zero: bool = False, most: float | None = None, example: str = "") -> QuantityType:
    """The metadata of a pydantic field: `latency: Annotated[Known, quantity("s", zero=True)]`.

    unit: one of UNITS, any other unit that takes SI prefixes, or "" for a plain number.
    """
    if not example:
        example = UNITS[unit].example if unit in UNITS else f"1 {unit}" if unit else "0.9"
    return QuantityType(unit, zero, most, example)


Bytes = Annotated[Known, quantity("B")]
Bandwidth = Annotated[Known, quantity("B/s")]
Seconds = Annotated[Known, quantity("s")]
Frequency = Annotated[Known, quantity("Hz")]
FlopRate = Annotated[Known, quantity("FLOP/s")]
Watts = Annotated[Known, quantity("W")]
Joules = Annotated[Known, quantity("J")]
JoulePerFlop = Annotated[Known, quantity("J/FLOP")]
JoulePerByte = Annotated[Known, quantity("J/B")]
Rate = Annotated[Known, quantity("/s")]
Dollars = Annotated[Known, quantity("USD")]
DollarRate = Annotated[Known, quantity("USD/h")]
DollarsPerByte = Annotated[Known, quantity("USD/B")]
DollarsPerJoule = Annotated[Known, quantity("USD/J")]
Fraction = Annotated[Known, quantity("", most=1.0)]
Share = Annotated[Known, quantity("", most=1.0, zero=True)]
Ratio = Annotated[Known, quantity("", example="1.3")]

_PLAIN = frozenset({"", "s", "/s", "USD", "USD/h"})


def format_quantity(value: float, unit: str) -> str:
    """A quantity for people, four digits: 3.35e12, 'B/s' -> '3.35 TB/s'. Money, rates and long times take no prefix."""
    if unit in _PLAIN and (unit != "s" or value == 0 or abs(value) >= 1):
        number = f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
        return f"{number} {unit}".rstrip()
    return str(_Reader(float(value), unit).render(prec=3))


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")


def _shown(given: Any) -> str:
    if given is None:
        return "nothing"
    if isinstance(given, bool):
        return str(given).lower()
    return "a list" if isinstance(given, list | tuple) else f"a {type(given).__name__}"
