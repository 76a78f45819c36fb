"""Puts fitted numbers into a stack's YAML file: into the entry of one chip under `on:`, all else left as it stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from simulator.errors import InputError, OutputError

Edit = tuple[int, int, str]
"""(from, to, what to write there) in the text as it was."""

INDENT = "  "


@dataclass(frozen=True)
class Entry:
    """What is to be said of a chip: numbers by path ('streaming.bf16') as YAML text, and where they come from."""

    chip: str
    source: str
    numbers: Mapping[str, str]

    def block(self) -> str:
        """The entry as text of its own."""
        lines = [f"{INDENT}{_key(self.chip)}:", f"{2 * INDENT}label: calibrated"]
        lines += [f"{2 * INDENT}source: {_quoted(self.source)}", *_lines(self.numbers)]
        return "\n".join(lines)


def written(text: str, entry: Entry) -> str:
    """The text of a stack with the entry in it.

    Numbers of the chip that the entry does not name stay, and keep the source that they had.
    """
    whole = yaml.compose(text, Loader=yaml.SafeLoader)
    chips = _child(whole, "on")
    if chips is None:
        return f"{text.rstrip()}\non:\n{entry.block()}\n"
    found = _child(_block(chips, "on"), entry.chip)
    if found is None:
        end = _end_of_line(text, chips)
        return f"{text[:end]}\n{entry.block()}{text[end:] or chr(10)}"
    chip = _block(found, entry.chip)
    edits = [*_sources_kept(chip, whole, entry), *_numbers(text, chip, entry), *_source(chip, entry)]
    for start, end, what in sorted(edits, reverse=True):
        text = text[:start] + what + text[end:]
    return text


def write(path: Path, entry: Entry) -> None:
    """Write the entry into the file. Raise OutputError when it cannot be written."""
    try:
        text = written(path.read_text(encoding="utf-8"), entry)
        whole = path.with_name(f"{path.name}.new")  # another fit that reads meanwhile finds all of it or none
        whole.write_text(text, encoding="utf-8")
        whole.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; put the lines above there") from error


def _numbers(text: str, chip: MappingNode, entry: Entry) -> Iterator[Edit]:
    new: dict[str, str] = {}
    tables: dict[int, tuple[MappingNode, dict[str, str]]] = {}
    for path, value in entry.numbers.items():
        node, rest = _deepest(chip, path)
        if not rest:
            yield node.start_mark.index, node.end_mark.index, value
        elif isinstance(node, MappingNode) and node is not chip:
            tables.setdefault(node.start_mark.index, (node, {}))[1][rest] = value
        else:
            new[path] = value
    for table, numbers in tables.values():
        items = _inline(numbers)
        if table.flow_style:
            place = table.end_mark.index - 1
            yield place, place, (", " if table.value else "") + ", ".join(items)
        else:
            place = _end_of_line(text, table)
            yield place, place, "".join(f"\n{' ' * table.start_mark.column}{item}" for item in items)
    if new:
        place = _end_of_line(text, chip)
        yield place, place, "\n" + "\n".join(_lines(new, " " * chip.start_mark.column))


def _source(chip: MappingNode, entry: Entry) -> Iterator[Edit]:
    """The entry's own label and source, in the place of those before."""
    start, column = chip.start_mark.index, " " * chip.start_mark.column
    for name, value in (("label", "calibrated"), ("source", _quoted(entry.source))):
        node = _child(chip, name)
        if node is None:
            yield start, start, f"{name}: {value}\n{column}"
        else:
            folded = isinstance(node, ScalarNode) and node.style in (">", "|")
            yield node.start_mark.index, node.end_mark.index, value + ("\n" if folded else "")


def _sources_kept(chip: MappingNode, whole: Node | None, entry: Entry) -> Iterator[Edit]:
    """Numbers that stay carry the label and source that they had from the entry, or from the file."""
    known: dict[str, str] = {}
    for name, new in (("label", "calibrated"), ("source", entry.source)):
        before = _child(chip, name) or _child(whole, name)
        if isinstance(before, ScalarNode) and before.value != new:
            known[name] = before.value.strip()
    for path, node in _leaves(chip):
        kept = {name: value for name, value in known.items() if _child(node, name) is None}
        if path in entry.numbers or not kept:
            continue
        more = ", ".join(f"{name}: {_quoted(value)}" for name, value in kept.items())
        if isinstance(node, ScalarNode):
            yield node.start_mark.index, node.end_mark.index, f"{{value: {node.value}, {more}}}"
        elif node.flow_style:
            yield node.end_mark.index - 1, node.end_mark.index - 1, f", {more}"


def _leaves(chip: MappingNode) -> Iterator[tuple[str, ScalarNode | MappingNode]]:
    """Path and node of each number; those of a table with a source of its own need no other."""
    for key, node in chip.value:
        if key.value in ("label", "source"):
            continue
        if isinstance(node, ScalarNode) or _child(node, "value") is not None:
            yield key.value, node
        elif _child(node, "source") is None:
            yield from ((f"{key.value}.{path}", leaf) for path, leaf in _leaves(node))


def _lines(numbers: Mapping[str, str], column: str = 2 * INDENT) -> Sequence[str]:
    return [f"{column}{line}" for line in _inline(numbers)]


def _inline(numbers: Mapping[str, str]) -> list[str]:
    """An entry for each head of the paths: "kv_streaming: 0.9", "host: {streaming: {default: 0.7}, vector: 0.6}"."""
    heads: dict[str, dict[str, str]] = {}
    for path, value in numbers.items():
        head, _, rest = path.partition(".")
        heads.setdefault(head, {})[rest] = value
    return [
        f"{head}: {inside['']}" if "" in inside else f"{head}: {{{', '.join(_inline(inside))}}}"
        for head, inside in heads.items()
    ]


def _deepest(node: Node, path: str) -> tuple[Node, str]:
    """The last node that is there on the way of the path, and what of the path is left."""
    head, _, rest = path.partition(".")
    inner = _child(node, head)
    if inner is None:
        return node, path
    return _deepest(inner, rest) if rest else (inner, "")


def _child(node: Node | None, name: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)


def _block(node: Node, name: str) -> MappingNode:
    if not isinstance(node, MappingNode) or node.flow_style:
        raise InputError(f"`{name}` stands in braces on one line; write it as a block, a key a line, to have it edited")
    return node


def _end_of_line(text: str, node: Node) -> int:
    """The end of the line on which the last thing of a node stands (a block's own end is where the next one begins)."""
    while isinstance(node, MappingNode) and not node.flow_style and node.value:
        node = node.value[-1][1]
    last = len(text[: node.end_mark.index].rstrip())
    end = text.find("\n", last)
    return len(text) if end < 0 else end


def _key(name: str) -> str:
    return _quoted(name) if any(sign in name for sign in ":#{}[],&*?|>'\"%@`") else name


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
