"""YAML: the traps of version 1.1, places of values, files laid over files, and every error at once."""

from __future__ import annotations

from math import inf, isnan
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, field_validator

from simulator.errors import InputError, ProfileError, Where
from simulator.problems import locate
from simulator.quantity import Bandwidth, FlopRate, Seconds
from simulator.strict import Strict
from simulator.yaml_source import parse_yaml, read_yaml, validate


class Tier(Strict):
    tier: Literal["hbm", "ddr"]
    bandwidth: Bandwidth
    latency: Seconds | None = None


class Dense(Strict):
    kind: Literal["dense"]
    width: int = Field(gt=0)


class Experts(Strict):
    kind: Literal["moe"]
    experts: int


class Lognormal(Strict):
    lognormal: tuple[float, float]


class Fixed(Strict):
    fixed: int


class Machine(Strict):
    name: str = "m"
    memory: tuple[Tier, ...] = ()
    ffn: Annotated[Dense | Experts, Field(discriminator="kind")] | None = None
    length: int | Lognormal | Fixed = 1
    peak: dict[Literal["bf16", "fp8"], FlopRate] = Field(default_factory=dict)
    exits: dict[int, float] = Field(default_factory=dict)
    wrap: bool = True

    @field_validator("name")
    @classmethod
    def _short(cls, name: str) -> str:
        if len(name) > 8:
            raise ValueError(f"the name '{name}' is long; use 8 letters")
        return name


def complaints(text: str, kind: Any = Machine) -> list[str]:
    """What is said about a text, one line a problem."""
    with pytest.raises(InputError) as caught:
        validate(kind, parse_yaml(text, "m.yaml"))
    return str(caught.value).splitlines()


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "m.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-7", -7),
        ("1e12", 1e12),
        ("2.4e7", 2.4e7),
        ("+.5", 0.5),
        ("'1e12'", "1e12"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2023-11-16", "2023-11-16"),
        (".inf", inf),
        ("~", None),
        ("", None),
        ("''", ""),
        ("!!str 3", "3"),
        ("!!float 3.5", 3.5),
        ("|\n  3", "3"),
        ("[3.35 TB/s, {a: b}]", ["3.35 TB/s", {"a": "b"}]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    data = parse_yaml(f"key: {text}", "m.yaml").data
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


def test_keys_are_those_of_yaml_1_2() -> None:
    assert parse_yaml("{no: 1, 010: 2, 1.5: 3}", "m.yaml").data == {"no": 1, 10: 2, 1.5: 3}
    assert isnan(parse_yaml(".nan", "m.yaml").data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "m.yaml:3:1: the key 'a' stands here twice, first at line 1"),
        ("a: {b: 1, b: 1}", "m.yaml:1:11: the key 'b' stands here twice, first at line 1"),
        ("[1]: 2", "m.yaml:1:1: a key is neither text nor a number; put it in quotes"),
        ("true: 2", "m.yaml:1:1: a key is neither text nor a number; put it in quotes"),
        ("a: &a [*a]", "m.yaml:1:8: the alias '*a' stands inside what it repeats"),
        ("a: *b", "m.yaml:1:4: no anchor '&b' before this alias"),
        ("<<: {a: 1}", "m.yaml:1:1: merge keys '<<' are not read; use an alias or 'extends: FILE'"),
        ("a: !!python/name:os.system x", "m.yaml:1:4: the tag 'tag:yaml.org,2002:python/name:os.system' is not read"),
        ("a: !!int x", "m.yaml:1:4: the tag 'tag:yaml.org,2002:int' is not read"),
        ("a: !!set {b}", "m.yaml:1:4: the tag 'tag:yaml.org,2002:set' is not read"),
        ("a: 1\n---\nb: 1", "m.yaml:2:1: a second document begins"),
        ("a: [1", "m.yaml:2:1: did not find expected ',' or ']'"),
        (
            "a: {machines[0].tp: [1]}",
            "m.yaml:1:13: did not find expected ',' or '}'; write a key with brackets in quotes within {...}",
        ),
        ("a: 'x", "m.yaml:1:6: found unexpected end of stream"),
        ("ok: 1\na: \x01", "m.yaml:2:4: a character that YAML does not allow"),
        ("[" * 100, "m.yaml:1:65: it is nested more than 64 deep"),
        ("[" * 100_000, "m.yaml:1:"),  # libyaml, which reads ahead, or we say so first
        ("a: " + "9" * 5000, "m.yaml:1:4: a whole number of 5000 digits is too long"),
    ],
)
def test_what_cannot_be_read_has_its_place(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_an_alias_repeats_a_value_at_its_own_place() -> None:
    source = parse_yaml("a: &x {b: 1}\nc: *x", "m.yaml")
    assert source.data == {"a": {"b": 1}, "c": {"b": 1}}
    assert source.where(("c", "b")) == Where("m.yaml", 1, 11)


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    assert refusal("\n".join(lines)).startswith("m.yaml:5:")
    assert "more than 100,000 values" in refusal("\n".join(lines))


def test_every_value_has_a_place_and_what_is_missing_has_its_ancestors() -> None:
    source = parse_yaml("chip:\n  memory:\n    - {tier: hbm}\n    - tier: ddr\n", "m.yaml")
    assert source.where() == Where("m.yaml", 1, 1)
    assert source.where(("chip", "memory", 1, "tier")) == Where("m.yaml", 4, 13)
    assert source.where(("chip", "memory", 1, "tier"), key=True) == Where("m.yaml", 4, 7)
    assert source.where(("chip", "memory", 7, "tier")) == source.where(("chip", "memory"))
    assert source.where(("chip", "power")) == source.where(("chip",))
    assert source.where(("node",)) == source.where()


def test_everything_that_is_wrong_is_said_at_once() -> None:
    text = """\
name: 3
memory:
  - {tier: hmb, bandwith: 3 TB/s}
  - tier: ddr
    bandwidth: 3 TB
    latency: {value: 3 ns, lable: x}
ffn: {kind: dense, width: -1, experts: 2}
length: {lognorml: [1, 2]}
peak: {bf17: 3 TFLOP/s, fp8: 0 FLOP/s}
exits: {16: a}
wrap: no
wrp: 1
"""
    assert complaints(text) == [
        "m.yaml:1:7: name should be text, not 3",
        "m.yaml:3:12: unknown tier 'hmb'; did you mean 'hbm'?",
        "m.yaml:3:17: unknown key 'bandwith'; did you mean 'bandwidth'?",
        "m.yaml:5:16: bandwidth: '3 TB' is in 'TB', but B/s is needed; write 'bandwidth: 3.35 TB/s'",
        "m.yaml:6:28: unknown key 'lable'; did you mean 'label'?",
        "m.yaml:7:27: width should be greater than 0, not -1",
        "m.yaml:7:31: unknown key 'experts'; known: kind, width",
        "m.yaml:8:10: unknown key 'lognorml'; did you mean 'lognormal'?",
        "m.yaml:9:8: unknown key 'bf17'; did you mean 'bf16'?",
        "m.yaml:9:30: fp8: '0 FLOP/s' is not more than zero; write 'fp8: 989 TFLOP/s'",
        "m.yaml:10:13: exits[16] should be a number, not 'a'",
        "m.yaml:11:7: wrap should be true or false, not 'no'",
        "m.yaml:12:1: unknown key 'wrp'; did you mean 'wrap'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ffn: {kind: danse}", "m.yaml:1:13: unknown kind 'danse'; did you mean 'dense'?"),
        ("ffn: {width: 3}", "m.yaml:1:1: the key 'kind' is missing"),
        ("ffn: {kind: moe}", "m.yaml:1:1: the key 'experts' is missing"),
        ("memory:\n  - tier: hbm", "m.yaml:2:5: the key 'bandwidth' is missing"),
        ("memory: [{tier: hbm, bandwidth: 3}]", "m.yaml:1:33: bandwidth: 3 has no unit, B/s is needed; write"),
        ("memory: [{tier: hbm, bandwidth: .nan TB/s}]", "m.yaml:1:33: bandwidth: '.nan TB/s' is not a finite number"),
        ("memory: [{tier: hbm, bandwidth: -1 TB/s}]", "m.yaml:1:33: bandwidth: '-1 TB/s' is not more than zero"),
        ("memory: {tier: hbm}", "m.yaml:1:9: memory should be a list, not a mapping"),
        ("memory: [3]", "m.yaml:1:10: memory[0] should be a mapping, not 3"),
        ("length: abc", "m.yaml:1:9: length should be a whole number or be a mapping, not 'abc'"),
        ("length: {lognormal: [1]}", "m.yaml:1:10: lognormal: a list of 1 is too short"),
        ("length: {fixed: x}", "m.yaml:1:17: fixed should be a whole number, not 'x'"),
        ("exits: {1: .inf}", "m.yaml:1:12: exits[1] should be a finite number, not inf"),
        ("name: much-too-long", "m.yaml:1:7: the name 'much-too-long' is long; use 8 letters"),
        ("- a", "m.yaml:1:1: this should be a mapping, not a list"),
        ("", "m.yaml:1:1: there is nothing in it"),
    ],
)
def test_each_kind_of_mistake_is_said_in_the_users_words(text: str, message: str) -> None:
    (said,) = complaints(text)
    assert said.startswith(message)


def test_several_missing_keys_are_all_said() -> None:
    assert complaints("memory: [{latency: 1 ns}]\nffn: {kind: dense}\nlength: {}") == [
        "m.yaml:1:10: the key 'tier' is missing",
        "m.yaml:1:10: the key 'bandwidth' is missing",
        "m.yaml:2:1: the key 'width' is missing",
        "m.yaml:3:1: the key 'lognormal' is missing",
    ]


def test_any_annotated_type_can_be_asked_for() -> None:
    assert validate(tuple[int, ...], parse_yaml("[1, 2]", "m.yaml")) == (1, 2)
    assert complaints("[1, x]", tuple[int, ...]) == ["m.yaml:1:5: this should be a whole number, not 'x'"]
    machine: Machine = validate(Machine, parse_yaml("memory: [{tier: ddr, bandwidth: 600 GB/s}]", "m.yaml"))
    assert machine.memory[0].bandwidth == 600e9


@pytest.mark.parametrize(
    ("loc", "data", "location"),
    [
        (("ffn", "dense", "width"), {"ffn": {"kind": "dense", "width": 1}}, ("ffn", "width")),
        (("ffn", "dense", "width"), {"ffn": {"dense": {"width": 1}}}, ("ffn", "dense", "width")),
        (("ffn", "dense", "dense"), {"ffn": {"dense": 1}}, ("ffn", "dense")),
        (("ffn", "Dense", "width"), {"ffn": {}}, ("ffn",)),
        (("a", "list[int]", 0), {"a": [1]}, ("a", 0)),
        (("peak", "bf17", "[key]"), {"peak": {"bf17": 1}}, ("peak", "bf17")),
        (("exits", "16"), {"exits": {16: 1}}, ("exits", 16)),
        (("a", 3), {"a": [1]}, ("a",)),
    ],
)
def test_names_that_pydantic_puts_between_keys_are_left_out(loc: Any, data: Any, location: Any) -> None:
    assert locate(loc, data)[0] == location


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_memory_tiers_lie_over_those_of_the_same_name_and_null_takes_away(tmp_path: Path) -> None:
    base = (
        "memory: [{tier: sram, size: 1, speed: 9}, {tier: hbm, size: 2, speed: 3}]\npeak: {bf16: 1, fp8: 2}\nprice: 7"
    )
    top = "memory: [{tier: hbm, size: 4}, {tier: ddr, size: 8}]\npeak: {fp8: null, int8: 3}\nprice: null"
    write(tmp_path, base=base, top=f"extends: base.yaml\n{top}")
    assert read_yaml(tmp_path / "top.yaml").data == {
        "memory": [{"tier": "hbm", "size": 4, "speed": 3}, {"tier": "ddr", "size": 8}],
        "peak": {"bf16": 1, "int8": 3},
    }


def test_a_file_lies_over_the_one_that_it_extends(tmp_path: Path) -> None:
    write(
        tmp_path,
        base="a: {x: 1, y: 2}\nlist: [1, 2]\nkept: 5\n",
        top="extends: base.yaml\na: {y: 3, z: 4}\nlist: [9]\n",
    )
    source = read_yaml(tmp_path / "top.yaml")
    assert source.data == {"a": {"x": 1, "y": 3, "z": 4}, "list": [9], "kept": 5}
    assert source.where(("a", "x")) == Where(str(tmp_path / "base.yaml"), 1, 8)
    assert source.where(("a", "y")) == Where(str(tmp_path / "top.yaml"), 2, 8)
    assert source.where(("a", "z"), key=True) == Where(str(tmp_path / "top.yaml"), 2, 11)
    assert source.where(("kept",)) == Where(str(tmp_path / "base.yaml"), 3, 7)


def test_of_several_files_the_later_lie_over_the_earlier(tmp_path: Path) -> None:
    write(tmp_path, one="a: 1\nb: 1\nc: 1", two="b: 2\nc: 2", top="extends: [one.yaml, two.yaml]\nc: 3")
    assert read_yaml(tmp_path / "top.yaml").data == {"a": 1, "b": 2, "c": 3}


def test_a_circle_of_files_prints_its_chain(tmp_path: Path) -> None:
    write(tmp_path, a="extends: b.yaml", b="x: 1\nextends: c.yaml", c="extends: b.yaml")
    with pytest.raises(ProfileError) as caught:
        read_yaml(tmp_path / "a.yaml", ProfileError)
    assert str(caught.value) == (
        f"{tmp_path / 'c.yaml'}:1:10: files extend each other in a circle: b.yaml -> c.yaml -> b.yaml"
    )


def test_files_that_fan_out_again_and_again_are_read_once(tmp_path: Path) -> None:
    for n in range(40):
        write(tmp_path, **{f"f{n}": f"extends: [f{n + 1}.yaml, f{n + 1}.yaml]\nk{n}: {n}"})
    write(tmp_path, f40="end: 1")
    assert len(read_yaml(tmp_path / "f0.yaml").data) == 41


def test_a_name_can_be_looked_up_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, top="extends: h100\nb: 2", base="a: 1")
    found = {"h100": tmp_path / "base.yaml"}
    assert read_yaml(tmp_path / "top.yaml", find=found.get).data == {"a": 1, "b": 2}


def test_a_file_that_is_not_there_suggests_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, scenario="a: 1", top="a: 1\nextends: scenaro.yaml", other="extends: 3")
    with pytest.raises(InputError, match=r"there is no file '.*scenari\.yaml'; did you mean '.*scenario\.yaml'\?"):
        read_yaml(tmp_path / "scenari.yaml")
    with pytest.raises(InputError, match=r"top\.yaml:2:10: there is no file .*did you mean '.*scenario\.yaml'"):
        read_yaml(tmp_path / "top.yaml")
    with pytest.raises(InputError, match=r"other\.yaml:1:10: 'extends' is not the name of a file"):
        read_yaml(tmp_path / "other.yaml")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(InputError, match="byte 3 is not UTF-8; save it as UTF-8"):
        read_yaml(tmp_path / "latin.yaml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(tmp_path / "bom.yaml").data == {"a": 1}


def test_a_value_can_be_replaced() -> None:
    source = parse_yaml("machines: [{tp: 1}, {tp: 2}]", "m.yaml")
    changed = source.replaced(("machines", 1, "tp"), "8", "--set machines[1].tp")
    changed = changed.replaced(("traffic", "rate"), "5 /s", "--set traffic.rate")
    assert changed.data == {"machines": [{"tp": 1}, {"tp": 8}], "traffic": {"rate": "5 /s"}}
    assert str(changed.where(("machines", 1, "tp"))) == "--set machines[1].tp:1:1"
    assert source.data == {"machines": [{"tp": 1}, {"tp": 2}]}
    with pytest.raises(InputError, match=r"there is no item \[2\] in a list of 2"):
        source.replaced(("machines", 2, "tp"), "8", "--set")
    with pytest.raises(InputError, match="there is no 'x' in a value that is no mapping and no list"):
        source.replaced(("machines", 1, "tp", "x"), "8", "--set")
