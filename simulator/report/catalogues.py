"""Lists of what ramwise knows: hardware, stacks, models, and every number of one of them with its source."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from simulator.model.attention import AttentionKind, GroupedQueryAttention
from simulator.model.ffn.together import members_of
from simulator.model.number_format import Precision
from simulator.provenance import Fact
from simulator.quantity import Known, format_quantity
from simulator.report.numerals import NOTHING, significant
from simulator.report.plain import plain

if TYPE_CHECKING:
    from rich.table import Table

    from simulator.hardware.profile import Profile
    from simulator.model.architecture import Architecture
    from simulator.model.zoo import Published
    from simulator.stack.stack import Stack
from simulator.stack.training.stack import TrainingStack

GAP = 2  # blanks between two columns
SENTENCE = 18  # columns that wrapped text gets at least
LONGEST = 40  # the longest name in the first column that stays whole
BINARY = ((2.0**40, "Ti"), (2.0**30, "Gi"), (2.0**20, "Mi"), (2.0**10, "Ki"))


@dataclass(frozen=True)
class Column:
    """`key` names the value in JSON, unit included; `title` heads the column, without one it is for JSON alone; `show`
    writes a value for a person, `missing` stands where there is none."""

    key: str
    title: str
    show: Callable[[Any], str] = str
    right: bool = False
    missing: str = NOTHING


@dataclass(frozen=True)
class Rows:
    """A table before it is printed: one raw value a column in every row, None where there is none."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]

    def objects(self) -> list[dict[str, Any]]:
        """The rows as JSON data: SI numbers, null where there is no value."""
        keys = [column.key for column in self.columns]
        return [dict(zip(keys, plain(row), strict=True)) for row in self.rows]

    def text(self) -> tuple[list[Column], list[list[str]]]:
        """The columns that a person sees, and the text of each row in them. A column without any value is left out."""
        seen = [
            (index, column)
            for index, column in enumerate(self.columns)
            if column.title and (index == 0 or any(row[index] is not None for row in self.rows))
        ]
        cells = [
            [column.missing if row[index] is None else column.show(row[index]) for index, column in seen]
            for row in self.rows
        ]
        return [column for _, column in seen], cells


def hardware_table(profiles: Iterable[Profile]) -> Rows:
    """A row a profile. Capacity and bandwidth are those of the chip's largest tier, which holds the model; `all memory`
    counts every chip's and the node's own tiers."""
    columns = (
        Column("name", "name"),
        Column("family", "family"),
        Column("chips", "chips", right=True),
        Column("chip", "chip"),
        Column("bf16_flop_per_s", "bf16 a chip", _in("FLOP/s"), right=True),
        Column("memory", "tier"),
        Column("memory_capacity_b", "capacity", _binary, right=True),
        Column("memory_bandwidth_b_per_s", "bandwidth", _in("B/s"), right=True),
        Column("node_memory_b", "all memory", _binary, right=True),
        Column("cap_w", "cap, W", _count, right=True),
        Column("default_stack", "default stack"),
        Column("weakest_label", "weakest label"),
    )
    rows = []
    for profile in profiles:
        chip, node = profile.chip, profile.node
        tier = chip.main_memory
        memories = [t for t in node.memory if t.tier != "nvme"]  # a disk is no memory
        beside = sum(t.capacity * (1 if t.shared_by in ("node", "pool") else node.chips) for t in memories)
        rows.append(
            (
                profile.name,
                profile.family,
                node.chips,
                chip.name,
                chip.matrix.peak.get("bf16"),
                tier.tier,
                tier.capacity,
                tier.bandwidth,
                node.chips * tier.capacity + beside,
                chip.power.cap,
                profile.default_stack,
                profile.weakest_label(),
            )
        )
    return Rows("Hardware profiles", columns, tuple(rows))


def facts_table(facts: Iterable[Fact]) -> Rows:
    """A row a number: where it stands, its value and range with the unit, how it is known and from where."""
    columns = (
        Column("path", "number"),
        Column("value", "value", _known, right=True),
        Column("unit", ""),
        Column("range", "range", lambda ends: f"{_known(ends[0])} to {_known(ends[1])}", missing=""),
        Column("label", "label"),
        Column("source", "source"),
    )
    rows = []
    for fact in facts:
        unit, ends = getattr(fact.value, "unit", None), getattr(fact.value, "range", None)
        spread = tuple(Known(end, unit=unit) for end in ends) if ends else None
        rows.append((fact.path, fact.value, unit or None, spread, fact.label, fact.source))
    return Rows("Numbers", columns, tuple(rows))


def models_table(architectures: Iterable[Architecture]) -> Rows:
    """A row a model. KV bytes are those of one more token of a sequence, in bf16, on one chip."""
    columns = (
        Column("name", "model"),
        Column("parameters", "parameters, 1e9", _billions, right=True),
        Column("active_parameters", "active, 1e9", _billions, right=True),
        Column("layers", "layers", _count, right=True),
        Column("hidden_size", "hidden", _count, right=True),
        Column("attention", "attention"),
        Column("experts", "experts"),
        Column("max_context", "context", _count, right=True),
        Column("kv_bytes_per_token", "KV bytes/token", _count, right=True),
        Column("precision", "checkpoint"),
    )
    rows = tuple(
        (
            model.name,
            model.total_parameters(),
            model.active_parameters(),
            model.layer_count,
            model.hidden_size,
            _attention(model),
            _experts(model),
            model.max_context,
            round(model.kv_bytes_per_token(Precision())),
            _precision(model),
        )
        for model in architectures
    )
    return Rows("Models", columns, rows)


def model_table(architecture: Architecture, published: Published | None) -> Rows:
    """A row a property, with the published figure and the difference in per cent where one is known."""
    total, active = architecture.total_parameters(), architecture.active_parameters()
    said = (published.total_parameters, published.active_parameters) if published else (None, None)
    rows: list[tuple[Any, ...]] = [("name", architecture.name, None, None)]
    totals = [("parameters", total, said[0]), ("active parameters", active, said[1])]
    if active != total:  # makers count active parameters in either way
        embedding = architecture.parameters_by_class()["embedding"]
        totals.append(("active less embedding", active - embedding, said[1]))
    rows += [(name, value, known, 100 * (value / known - 1) if known else None) for name, value, known in totals]
    rows += [(f"  {name}", value, None, None) for name, value in architecture.parameters_by_class().items() if value]
    facts: dict[str, Any] = {
        "layers": architecture.layer_count,
        "hidden size": architecture.hidden_size,
        "attention": _attention(architecture),
        "heads": _joined(_heads(layer.attention) for layer in architecture.layers if layer.attention),
        "ffn width": _joined(layer.ffn.shape() for layer in architecture.layers if layer.ffn),
        "experts": _experts(architecture),
        "vocabulary": architecture.vocab_size,
        "context": architecture.max_context,
        "KV bytes/token (bf16)": round(architecture.kv_bytes_per_token(Precision())),
        "KV bytes/sequence (bf16)": round(architecture.kv_bytes_per_sequence(Precision())) or None,
        "checkpoint": _precision(architecture),
        "shape from": architecture.source,
        "published by": published.source if published else None,
    }
    rows += [(name, value, None, None) for name, value in facts.items() if value is not None]
    columns = (
        Column("property", "property"),
        Column("value", "computed", _counted),
        Column("published", "published", _counted, missing=""),
        Column("difference_percent", "difference", lambda share: f"{share:+.2f} %", missing=""),
    )
    return Rows(architecture.name, columns, tuple(rows))


def stacks_table(stacks: Iterable[Stack | TrainingStack]) -> Rows:
    """A row a software stack."""
    columns = (
        Column("name", "name"),
        Column("title", "title"),
        Column("date", "date"),
        Column("families", "families", ", ".join),
        Column("weakest_label", "weakest label"),
    )
    rows = tuple((s.name, s.title, s.date, s.families, s.weakest_label()) for s in stacks)
    return Rows("Software stacks", columns, rows)


def print_rows(rows: Rows, as_json: bool) -> None:
    """On stdout: a JSON list of objects, a table that fits the terminal, or aligned lines where there is none."""
    if as_json:
        sys.stdout.write(json.dumps(rows.objects(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    elif sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        for index, table in enumerate(tables(rows, console.width)):
            console.print(*([""] if index else []), table, sep="\n")
    else:
        sys.stdout.write(aligned(rows))


def aligned(rows: Rows) -> str:
    """A line a row, whatever its length, for a pipe or a file. The last cell of a line widens no column."""
    columns, cells = rows.text()
    lines = [[column.title for column in columns], *cells]
    widths = [0] * len(columns)
    for line in lines:
        last = max(index for index, cell in enumerate(line) if cell or index == 0)
        for index, cell in enumerate(line[:last]):
            widths[index] = max(widths[index], len(cell))
    for index, column in enumerate(columns):
        if column.right:
            widths[index] = max(len(line[index]) for line in lines)
    text = []
    for line in lines:
        fitted = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        text.append((" " * GAP).join(fitted).rstrip())
    return "\n".join(text) + "\n"


def tables(rows: Rows, width: int) -> list[Table]:
    """Tables of at most `width` columns: cells wrap between words, and columns that still do not fit make a table of
    their own below, the first column repeated."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    columns, cells = rows.text()
    found = []
    for block in _blocks([_needs(column, [line[i] for line in cells], i) for i, column in enumerate(columns)], width):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
        for index, wide in block.items():
            justify: Literal["left", "right"] = "right" if columns[index].right else "left"
            table.add_column(columns[index].title, justify=justify, overflow="fold", width=wide)
        for line in cells:
            table.add_row(*(Text(line[index], style="" if index else "bold") for index in block))
        found.append(table)
    return found


def _blocks(needs: list[tuple[int, int]], width: int) -> Iterator[dict[int, int]]:
    """For each table the width of its columns by index, from (least, most) of every column; each table starts with the
    first column."""
    block = [0]
    for index in range(1, len(needs)):
        if len(block) > 1 and sum(needs[i][0] + GAP for i in (*block, index)) > width + GAP:
            yield _share(needs, block, width)
            block = [0]
        block.append(index)
    yield _share(needs, block, width)


def _share(needs: list[tuple[int, int]], block: list[int], width: int) -> dict[int, int]:
    """The least widths, and what is left of the terminal shared out, columns that ask for little first."""
    left = width + GAP - sum(needs[i][0] + GAP for i in block)
    wide = {index: min(needs[index][0], width) for index in block}
    for turn, index in enumerate(sorted(block, key=lambda i: needs[i][1] - needs[i][0])):
        more = max(0, min(needs[index][1] - needs[index][0], left // (len(block) - turn)))
        wide[index] += more
        left -= more
    return wide


def _needs(column: Column, cells: list[str], index: int) -> tuple[int, int]:
    """Columns of a terminal that a column needs and that it could use: numbers and names stay whole, sentences wrap."""
    longest = max(map(len, cells), default=0)
    words = max(len(word) for text in (column.title, *cells) for word in text.split())
    if column.right:
        least = max(longest, *map(len, column.title.split()))
    else:
        least = max(min(words, SENTENCE if index else LONGEST), min(longest, SENTENCE))
    return least, max(longest, len(column.title))


def _in(unit: str) -> Callable[[float], str]:
    return lambda value: format_quantity(value, unit)


def _known(value: float) -> str:
    """A fact's value in its own unit; a number that carries none is written as it is."""
    unit = getattr(value, "unit", None) or ""
    return _bytes(value) if unit == "B" else format_quantity(value, unit)


def _bytes(value: float) -> str:
    """Decimal where four digits are exact, else binary where six are: 192 GB, but 80 GiB."""
    exact = any(float(f"{value / size:.5e}") == value / size for size, _ in BINARY if value >= size)
    return _binary(value, 6) if exact and float(f"{value:.3e}") != value else format_quantity(value, "B")


def _binary(value: float, digits: int = 4) -> str:
    """In powers of 1024, as memory chips come."""
    size, prefix = next((pair for pair in BINARY if value >= pair[0]), (1.0, ""))
    return f"{value / size:.{digits}g} {prefix}B"


def _billions(count: float) -> str:
    return significant(count / 1e9)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _counted(value: Any) -> str:
    return value if isinstance(value, str) else _count(value)


def _joined(words: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(words))


def _attention(model: Architecture) -> str:
    """Kinds with the number of their layers where there are several: "GQA" or "GQA in 18, GQA, window 128, in 18"."""
    counts: dict[str, int] = {}
    for layer in model.layers:
        if layer.attention:
            name = _kind(layer.attention)
            counts[name] = counts.get(name, 0) + layer.count
    if list(counts.values()) == [model.layer_count]:
        return next(iter(counts))
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _kind(attention: AttentionKind) -> str:
    """The field's short name of an attention: MHA, GQA, MQA, MLA, with its window."""
    if isinstance(attention, GroupedQueryAttention):
        name = {1: "MQA", attention.heads: "MHA"}.get(attention.kv_heads, "GQA")
    else:
        name = {"latent": "MLA"}.get(attention.kind, attention.kind.replace("_", " "))
    return name if attention.window is None else f"{name} window {attention.window}"


def _heads(attention: AttentionKind) -> str:
    if isinstance(attention, GroupedQueryAttention):
        return f"{attention.heads} over {attention.kv_heads} key-value heads of {attention.head_dim}"
    rank = getattr(attention, "kv_lora_rank", None)
    heads = getattr(attention, "heads", None)
    return (f"{heads}" if heads else attention.kind) + (f" over a latent of {rank}" if rank else "")


def _experts(model: Architecture) -> str | None:
    """ "128, top 8", with shared experts named; None for a dense model."""
    found = []
    for ffn in (part for layer in model.layers if layer.ffn for part in members_of(layer.ffn)):
        if ffn.routed_experts:
            shared = " + shared" if getattr(ffn, "shared_width", 0) else ""
            found.append(f"{ffn.routed_experts}, top {getattr(ffn, 'top_k', '?')}{shared}")
    return _joined(found) or None


def _precision(model: Architecture) -> str | None:
    """Formats of the checkpoint, the weights' first: "bf16", "bf16, expert mxfp4"."""
    if model.precision is None:
        return None
    precision = model.precision
    others = {t: precision.format_of(t) for t in ("expert", "attention", "embedding", "head")}
    odd = [f"{tensor} {name}" for tensor, name in others.items() if name != precision.weights]
    return ", ".join([precision.weights, *odd])
