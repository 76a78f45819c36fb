"""What pydantic found wrong, as Problems: each with its place, in the user's words, and with the nearest valid name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import UnionType
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from simulator.errors import Problem, Where, nearest, unknown
from simulator.quantity import Known, QuantityError

Key = str | int | float
Location = tuple[Key, ...]

_QUOTED = re.compile(r"'([^']*)'")
_FIRST = re.compile(r"(?:the )?(\w+) ")
_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


_WISHES = {
    "bool_type": "be true or false",
    "bool_parsing": "be true or false",
    "dict_type": "be a mapping",
    "float_parsing": "be a number",
    "float_type": "be a number",
    "finite_number": "be a finite number",
    "int_from_float": "be a whole number",
    "int_parsing": "be a whole number",
    "int_parsing_size": "be a smaller number",
    "int_type": "be a whole number",
    "list_type": "be a list",
    "model_attributes_type": "be a mapping",
    "model_type": "be a mapping",
    "string_type": "be text",
    "tuple_type": "be a list",
}
"""pydantic's error type -> what a value should be, where pydantic's words are Python's."""


class Places(Protocol):
    """`Source.where`."""

    def __call__(self, location: Location = (), *, key: bool = False) -> Where: ...


def problems_of(failure: ValidationError, model_type: Any, data: Any, where: Places) -> list[Problem]:
    """Every error of a failed validation of `data`, in the order of the file, without repetition."""
    errors = _of_likely_members(failure.errors(include_url=False), data)
    found = dict.fromkeys(_problem(details, model_type, data, where) for details in _without_echoes(errors))
    return sorted(_joined(found), key=lambda problem: _order(problem.where))


def locate(loc: Sequence[Key], data: Any) -> tuple[Location, tuple[int, ...]]:
    """The keys of `data` that pydantic's `loc` leads through, and which parts of it are none.

    pydantic puts names between the keys: the tag or the type of a union's member, '[key]', a validator's name. Of the
    ways to leave parts out the one is taken that keeps most, and then the one that keeps the last part.
    """

    def walk(at: int, here: Any) -> tuple[tuple[int, bool], Location, tuple[int, ...]]:
        if at == len(loc):
            return (0, False), (), ()
        score, path, skipped = walk(at + 1, here)
        best = score, path, (at, *skipped)
        key = _key(loc[at], here)
        if key is not None:
            (kept, _), path, skipped = walk(at + 1, here[key])
            last = at == len(loc) - 1 or score_last(path)
            taken = (kept + 1, last), (key, *path), skipped
            if taken[0] >= best[0]:
                best = taken
        return best

    def score_last(path: Location) -> bool:
        return bool(path) and str(path[-1]) == str(loc[-1])

    _, path, skipped = walk(0, data)
    return path, skipped


def _key(part: Key, here: Any) -> Key | None:
    """The key of `here` that a part of pydantic's loc means, if any."""
    if isinstance(here, Mapping):
        return part if part in here else next((key for key in here if str(key) == str(part)), None)
    if isinstance(here, list | tuple) and isinstance(part, int) and 0 <= part < len(here):
        return part
    return None


def _of_likely_members(errors: Iterable[ErrorDetails], data: Any) -> list[ErrorDetails]:
    """The errors, less those of union members that the user hardly meant.

    Of the members of a union that fail on a mapping or a list only the one with the fewest errors counts, and one that
    wants another type altogether last.
    """
    left = list(errors)
    unions: dict[tuple[Key, ...], dict[Key, list[ErrorDetails]]] = defaultdict(lambda: defaultdict(list))
    for details in left:
        loc = details["loc"]
        keys = loc[:-1] if details["type"] == "missing" else loc  # a missing key is in no data, and is no member
        for at in locate(keys, data)[1]:
            unions[loc[:at]][loc[at]].append(details)
    for prefix, members in unions.items():
        if len(members) == 1 or not isinstance(_value(data, locate(prefix, data)[0]), dict | list):
            continue
        best = min(
            members,
            key=lambda tag: (
                any(len(d["loc"]) == len(prefix) + 1 and _of_another_type(d) for d in members[tag]),
                sum(d["type"] == "extra_forbidden" for d in members[tag]),
                len(members[tag]),
            ),
        )
        dropped = [id(details) for tag, group in members.items() if tag != best for details in group]
        left = [details for details in left if id(details) not in dropped]
    return left


def _of_another_type(details: ErrorDetails) -> bool:
    """Whether a member of a union wants something else than the mapping or the list that is there."""
    return details["type"].endswith("_type") or details["type"] == "literal_error"


def _without_echoes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """The errors, less each missing key whose misspelling is an error already, and lists short of wrong items."""
    missing: dict[tuple[Key, ...], list[str]] = defaultdict(list)
    for details in errors:
        if details["type"] == "missing":
            missing[details["loc"][:-1]].append(str(details["loc"][-1]))
    meant = {
        (loc[:-1], nearest(str(loc[-1]), missing[loc[:-1]]))
        for loc in (details["loc"] for details in errors if details["type"] == "extra_forbidden")
    }
    wrong = {loc[:end] for loc in (details["loc"] for details in errors) for end in range(len(loc))}
    return [
        details
        for details in errors
        if (details["type"] != "missing" or (details["loc"][:-1], str(details["loc"][-1])) not in meant)
        and not (details["type"] == "too_short" and details["loc"] in wrong)  # items that are wrong are not counted
    ]


def _value(data: Any, location: Location) -> Any:
    for part in location:
        data = data[part]
    return data


def _problem(details: ErrorDetails, model_type: Any, data: Any, where: Places) -> Problem:
    kind, loc, context = details["type"], details["loc"], details.get("ctx", {})
    location, _ = locate(loc[:-1] if kind == "missing" else loc, data)  # a missing key stands nowhere
    name = _name(location)
    if kind == "extra_forbidden":
        names = [field for field in _fields(model_type, loc[:-1]) if field not in _keys(data, location[:-1])]
        return unknown("key", loc[-1], names or _fields(model_type, loc[:-1]), where(location, key=True))
    if kind in ("missing", "union_tag_not_found"):
        return _missing(details, name, where(location, key=True))
    if kind == "union_tag_invalid":
        key = context["discriminator"].strip("'")
        place = where((*location, key))
        return unknown(key, context["tag"], _QUOTED.findall(context["expected_tags"]), place)
    if kind in ("literal_error", "enum"):
        names = _QUOTED.findall(context["expected"])
        if names and isinstance(details["input"], str):
            is_key = loc[-1] == "[key]"
            return unknown("key" if is_key else name or "name", details["input"], names, where(location, key=is_key))
    error = context.get("error")
    if isinstance(error, QuantityError):
        if name == "value":  # {value: 5, label: ...}
            name = _name(location[:-1])
        what = f"{name}: {error.what}" if name else error.what
        example = f"{name}: {error.example}" if name and isinstance(location[-1], str) else error.example
        return Problem(what, where(location), f"write '{example}'")
    if isinstance(error, Exception):
        what, *mend = str(error).split("; ", 1)
        return Problem(what, _place(what, location, data, where), mend[0] if mend else None)
    if kind in ("too_short", "too_long"):
        found, many = context["actual_length"], context.get("min_length", context.get("max_length"))
        return Problem(f"{name or 'this'} has {found} items, {many} are needed", where(location))
    message = details["msg"]
    if message.startswith("Input ") or kind in _WISHES:
        wish = _WISHES.get(kind) or _wish(kind, message)
        message = f"{name or 'this'} should {wish}, not {_shown(details['input'])}"
    elif name:
        message = f"{name}: {message[0].lower()}{message[1:]}"
    return Problem(message, where(location))


def _place(what: str, location: Location, data: Any, where: Places) -> Where:
    """Where a validator's words point: at the key of the mapping that they begin with, or at the value itself."""
    first = _FIRST.match(what)
    if first and first[1] in _keys(data, location):
        return where((*location, first[1]), key=True)
    return where(location)


def _wish(kind: str, message: str) -> str:
    """What pydantic wants, without what it got; the names of a literal are all told."""
    wish = message.removeprefix("Input should ").replace("True", "true")
    return wish if kind == "literal_error" else wish.split(",")[0]


def _name(location: Location) -> str:
    """What a message calls a value: its key, with the index for an item of a list ('memory[0]')."""
    keys = [at for at, part in enumerate(location) if isinstance(part, str)]
    if not keys:
        return ""
    return str(location[keys[-1]]) + "".join(f"[{part}]" for part in location[keys[-1] + 1 :])


def _missing(details: ErrorDetails, name: str, where: Where) -> Problem:
    if details["type"] == "missing" and isinstance(details["loc"][-1], int):
        return Problem(f"{name or 'this'}: a list of {len(details['input'])} is too short", where)
    if details["type"] == "missing":
        return Problem(f"the key '{details['loc'][-1]}' is missing", where)
    return Problem(f"the key {details['ctx']['discriminator']} is missing", where)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _keys(data: Any, location: Location) -> Iterable[Any]:
    value = _value(data, location)
    return value if isinstance(value, Mapping) else ()


def _fields(model_type: Any, loc: Sequence[Key]) -> list[str]:
    """The keys that a mapping at pydantic's `loc` may have."""
    types = _members(model_type)
    for part in loc:
        inner = [member for one in types for member in _inside(one, part)]
        tagged = [one for one in types if _is_tag(one, part)]
        types = inner or tagged or types
    names: dict[str, None] = {}
    for one in types:
        if _is_model(one):
            names.update((field.alias or name, None) for name, field in one.model_fields.items())
        elif one is Known:
            names.update(dict.fromkeys(("value", "label", "source", "range")))
    return list(names)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _members(kind: Any) -> list[Any]:
    """The types that an annotation stands for: unions opened, Annotated taken off."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _members(get_args(kind)[0])
    if origin in (Union, UnionType):
        return [member for argument in get_args(kind) for member in _members(argument)]
    return [kind]


def _inside(kind: Any, part: Key) -> list[Any]:
    """The types of what stands under the key or index `part` in a value of a type."""
    if _is_model(kind):
        return [
            member
            for name, field in kind.model_fields.items()
            if part in (name, field.alias)
            for member in _members(field.annotation)
        ]
    arguments = [argument for argument in get_args(kind) if argument is not Ellipsis]
    origin = get_origin(kind)
    if not arguments or not isinstance(origin, type):
        return []
    if issubclass(origin, Mapping):
        return _members(arguments[-1])
    if issubclass(origin, tuple) and isinstance(part, int):
        return _members(arguments[min(part, len(arguments) - 1)])
    return _members(arguments[0]) if isinstance(part, int) else []


def _is_tag(kind: Any, part: Key) -> bool:
    """Whether pydantic calls a union's member `part`: by its name or by one of its literals."""
    if not _is_model(kind):
        return False
    literals = (field.annotation for field in kind.model_fields.values() if get_origin(field.annotation) is Literal)
    return part == kind.__name__ or any(part in get_args(literal) for literal in literals)


def _joined(problems: Iterable[Problem]) -> list[Problem]:
    """One Problem a place when a union's members each want something else of the same plain value."""
    groups: dict[tuple[Where | None, str], list[Problem]] = defaultdict(list)
    for problem in _of_words(list(problems)):
        head, should, _ = problem.what.partition(" should ")
        groups[problem.where, head if should else problem.what].append(problem)
    joined = []
    for (where, head), group in groups.items():
        if len(group) == 1:
            joined.append(group[0])
            continue
        wishes = [problem.what.removeprefix(head).removeprefix(" should ").rpartition(", not ") for problem in group]
        wanted = " or ".join(dict.fromkeys(wish[0] for wish in wishes))
        joined.append(Problem(f"{head} should {wanted}, not {wishes[0][2]}", where))
    return joined


def _of_words(problems: list[Problem]) -> Iterator[Problem]:
    """The problems, less those of a word that is a slip of a name ('automatic'), or of a quantity (5, '5') that may
    also be a name or a mapping: the nearest reading alone is told."""
    names = [p for p in problems if p.what.startswith("unknown ") and not p.what.startswith("unknown key")]
    named = {p.where for p in names}
    meant = {p.where for p in names if (p.mend or "").startswith("did you mean")}
    measured = {p.where for p in problems if (p.mend or "").startswith("write '")} - meant
    lists = {p.where for p in problems if " should be a list" in p.what} - meant
    for problem in problems:
        of_name = problem in names
        if problem.where in meant and not of_name:
            continue
        if problem.where in named | measured and " should be a " in problem.what:
            continue
        if of_name and problem.where in measured:
            continue
        if of_name and problem.where in lists:
            yield replace(problem, mend=f"{problem.mend}, or a list: [{_QUOTED.findall(problem.what)[-1]}]")
        else:
            yield problem


def _order(where: Where | None) -> tuple[str, int, int]:
    return (where.file, where.line or 0, where.column or 0) if where else ("", 0, 0)
