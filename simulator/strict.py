"""The base of everything that is read from YAML: unknown keys are refused and text never becomes a number."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


def _without_text_numbers(part: Any) -> Any:
    """The schema with its int, float and bool parts made to refuse text (pydantic alone would read "4" and "no")."""
    if isinstance(part, list | tuple):
        return type(part)(_without_text_numbers(item) for item in part)
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    if kind in ("bool", "float"):
        return {**part, "strict": True}
    if kind == "int":
        return core_schema.no_info_before_validator_function(_number, part)
    return {
        key: value if key in ("default", "metadata", "serialization") else _without_text_numbers(value)
        for key, value in part.items()
    }


def _number(value: Any) -> Any:
    if isinstance(value, str | bytes | bool):
        raise PydanticCustomError("int_type", "Input should be a whole number")
    return value


class Strict(BaseModel):
    """Frozen, hashable, no unknown keys, no NaN or infinity. A list becomes a tuple and 2.4e7 a whole number, but
    "4", yes and true are no numbers, and "no" is no truth value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: CoreSchema = _without_text_numbers(handler(source))
        return schema
