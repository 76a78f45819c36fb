"""Hardware profiles: what ships is sound, and what a user gets wrong is said with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.errors import ProfileError, Where
from simulator.hardware import Catalogue, Fabric, Profile, check_profile, packaged_folder, weakest

TINY = """\
name: tiny
title: One chip
family: spatial
label: datasheet
source: a datasheet
default_stack: tt-metal-2025
chip:
  name: Tiny
  matrix:
    units: 10
    clock: 1 GHz
    flop_per_clock: {bf16: 100}
    peak: {bf16: 1 TFLOP/s, fp8: 2 TFLOP/s}
  memory:
    - tier: sram
      shared_by: chip
      capacity: 1 MiB
      bandwidth: 1 TB/s
    - tier: ddr
      shared_by: chip
      capacity: 1 GiB
      bandwidth: 76.8 GB/s
      channels: 2
      transfer_rate: 4800 MT/s
      latency: {value: 100 ns, label: measured, source: a pointer chase}
  power:
    level: board
    label: estimated
    idle: 10 W
    active: 20 W
    cap: 100 W
    flop: {bf16: 1 pJ/FLOP, fp8: 0.5 pJ/FLOP}
node:
  chips: 4
  fabric: {kind: mesh, axes: [2, 2], bandwidth: 10 GB/s, latency: 1 us}
  power: {base: 50 W, pue: 1.1}
"""


def catalogue(folder: Path, text: str = TINY, name: str = "tiny") -> Catalogue:
    (folder / f"{name}.yaml").write_text(text)
    return Catalogue([folder])


def refusal(folder: Path, old: str, new: str) -> ProfileError:
    """What is said when one piece of the tiny profile is changed."""
    assert TINY.count(old) == 1
    with pytest.raises(ProfileError) as caught:
        catalogue(folder, TINY.replace(old, new)).load("tiny")
    return caught.value


@pytest.mark.parametrize("name", Catalogue().names())
def test_every_packaged_profile_is_free_of_contradictions_and_knows_the_source_of_every_number(name: str) -> None:
    profile = Catalogue().load(name)
    assert check_profile(profile) == []
    facts = profile.provenance()
    assert {fact.label for fact in facts} <= {"measured", "calibrated", "datasheet", "estimated"}
    assert all(len(fact.source) > 10 for fact in facts), [fact for fact in facts if len(fact.source) <= 10]
    paths = {fact.path for fact in facts}
    assert {"chip.power.idle", "chip.power.cap", "node.chips", "node.power.base"} <= paths
    assert {"chip.matrix.peak.bf16", "chip.matrix.peak.fp16"} & paths
    assert profile.default_stack
    # What the authors keep in their heads is never sold as a datasheet or a measurement.
    assert all(fact.label == "estimated" for fact in facts if "recalled" in fact.source)


def test_all_four_families_ship() -> None:
    shipped = Catalogue()
    families = {shipped.load(name).family for name in shipped.names()}
    assert families == {"hbm-gpu", "dram-node", "tpu-mesh", "spatial"}


def test_published_balances_come_out() -> None:
    """Ridge points in FLOP per byte, by hand from the datasheets: a sparse peak would double them."""
    shipped = Catalogue()
    ridges = {
        "h100-sxm-8": 295,
        "h200-sxm-8": 206,
        "b200-sxm-8": 292,
        "mi300x-8": 247,
        "tpu-v4-64": 229,
        "tpu-v6e-16": 560,
    }
    for name, ridge in ridges.items():
        chip = shipped.load(name).chip
        assert chip.matrix.peak["bf16"] / chip.main_memory.bandwidth == pytest.approx(ridge, rel=0.005), name


def test_tenstorrent_formats_are_fidelities() -> None:
    """LoFi takes one pass, HiFi2 two, HiFi4 four: 64 cores x 4096 FLOP x 1 GHz at LoFi."""
    peak = Catalogue().load("wormhole-galaxy").chip.matrix.peak
    assert peak["bfp4"] == pytest.approx(64 * 4096e9, rel=0.001)
    assert peak["bfp4"] / peak["bfp8"] == pytest.approx(2, rel=0.001)
    assert peak["bfp4"] / peak["bf16"] == pytest.approx(4, rel=0.001)


def test_a_number_takes_the_label_and_source_of_the_nearest_block(tmp_path: Path) -> None:
    facts = {fact.path: fact for fact in catalogue(tmp_path).load("tiny").provenance()}
    assert facts["chip.memory[1].latency"][1:] == (pytest.approx(1e-7), "measured", "a pointer chase")
    assert facts["chip.memory[1].bandwidth"][1:] == (76.8e9, "datasheet", "a datasheet")
    assert facts["chip.power.idle"][1:] == (10.0, "estimated", "a datasheet")
    assert facts["chip.matrix.units"].value == 10
    assert "chip.memory[0].usable" not in facts


def test_the_weakest_label_is_the_one_that_a_result_rests_on(tmp_path: Path) -> None:
    assert catalogue(tmp_path).load("tiny").weakest_label() == "estimated"
    assert weakest(["measured", "datasheet", "calibrated"]) == "datasheet"
    assert weakest([]) == "measured"


@pytest.mark.parametrize(("line", "key"), [("label: datasheet\n", "label"), ("source: a datasheet\n", "source")])
def test_a_number_that_nobody_vouches_for_is_refused(tmp_path: Path, line: str, key: str) -> None:
    assert f"the key '{key}' is missing" in str(refusal(tmp_path, line, ""))


CONTRADICTIONS = [
    ("fp8: 2 TFLOP/s", "fp8: 0.5 TFLOP/s", "13:", "peak fp8 is below peak bf16"),
    (
        "bf16: 1 TFLOP/s",
        "bf16: 2 TFLOP/s",
        "13:18:",
        "peak bf16 is 2 TFLOP/s, but 10 units x 100 FLOP x clock give 1 TFLOP/s",
    ),
    ("fp8: 2 TFLOP/s}", "fp8: 2 TFLOP/s, fp16: 2 TFLOP/s}", "13:", "one of the 16-bit peaks is twice the other"),
    ("  memory:\n", "  vector: {peak: 2 TFLOP/s}\n  memory:\n", "14:18:", "above the 16-bit matrix peak"),
    ("bf16: 1 pJ/FLOP", "bf16: 0.5 nJ/FLOP", "32:18:", "510 W at the peak in bf16, far over the cap"),
    ("flop_per_clock: {bf16: 100}", "flop_per_clock: {fp16: 100}", "12:", "flop_per_clock names fp16, peak does not"),
    ("bandwidth: 76.8 GB/s", "bandwidth: 38.4 GB/s", "22:18:", "2 channels x 8 B x transfer_rate give 76.8 GB/s"),
    ("      channels: 2\n", "", "19:", "channels and transfer_rate go together"),
    ("bandwidth: 1 TB/s", "bandwidth: 1 GB/s", "19:", "tier ddr is faster than tier sram before it"),
    ("cap: 100 W", "cap: 25 W", "31:10:", "cap is below idle + active"),
    ("fp8: 0.5 pJ/FLOP", "int8: 0.5 pJ/FLOP", "32:", "no energy for a FLOP in fp8"),
    ("axes: [2, 2], ", "axes: [2, 4], ", "35:", "axes 2 x 4 hold 8 chips, the node has 4"),
    ("axes: [2, 2], ", "", "35:", "a mesh needs axes"),
    ("kind: mesh", "kind: switch", "35:", "axes mean nothing to a switch"),
    ("kind: mesh, axes: [2, 2]", "kind: switch, pair: 10 GB/s", "35:", "3 peers at 10 GB/s each do not add up"),
    (", latency: 1 us", "", "35:", "a mesh needs a latency"),
    (
        "{kind: mesh, axes: [2, 2], bandwidth: 10 GB/s, latency: 1 us}",
        "{kind: none}",
        "35:",
        "4 chips without a fabric",
    ),
    ("pue: 1.1", "pue: 0.9", "36:28:", "pue is below 1"),
    ("name: tiny", "name: small", "1:7:", "the profile is called 'small', its file 'tiny.yaml'"),
]


@pytest.mark.parametrize(("old", "new", "place", "what"), CONTRADICTIONS)
def test_a_contradiction_is_refused_with_its_place(tmp_path: Path, old: str, new: str, place: str, what: str) -> None:
    assert f"tiny.yaml:{place}" in str(refusal(tmp_path, old, new))
    assert what in str(refusal(tmp_path, old, new))


def test_every_contradiction_is_listed_at_once(tmp_path: Path) -> None:
    text = TINY.replace("cap: 100 W", "cap: 25 W").replace("pue: 1.1", "pue: 0.9")
    with pytest.raises(ProfileError) as caught:
        catalogue(tmp_path, text).load("tiny")
    assert [problem.where.line for problem in caught.value.problems if problem.where] == [31, 36]


@pytest.mark.parametrize(
    ("new", "place", "what"),
    [
        ("idle: 10", "29:11: ", "no unit, W is needed"),
        ("idle: .nan W", "29:11: ", "finite"),
        ("idle: -10 W", "29:11: ", "more than zero"),
        ("idle: 10 GB", "29:11: ", "but W is needed"),
        ("idle: {value: 10 W, label: guessed}", "29:", "label"),
        ("idle_power: 10 W", "29:5: ", "idle"),
    ],
)
def test_a_wrong_number_is_refused_with_its_place(tmp_path: Path, new: str, place: str, what: str) -> None:
    error = refusal(tmp_path, "idle: 10 W", new)
    assert any(f"tiny.yaml:{place}" in str(problem) and what in str(problem) for problem in error.problems), str(error)


def test_an_unknown_name_suggests_the_nearest() -> None:
    place = Where("scenario.yaml", 3, 16)
    with pytest.raises(
        ProfileError, match=r"scenario\.yaml:3:16: unknown hardware profile 'h100-smx-8'; did you mean 'h100-sxm-8'"
    ):
        Catalogue().load("h100-smx-8", place)


def test_the_users_folder_wins_over_the_packaged_profiles(tmp_path: Path) -> None:
    mine = catalogue(tmp_path, TINY.replace("name: tiny", "name: h100-sxm-8", 1), name="h100-sxm-8")
    assert mine.load("h100-sxm-8").title == "One chip"
    assert mine.load("a100-sxm-80g-8").chip.name == "A100 SXM4 80GB"
    assert Catalogue().load("h100-sxm-8").title.startswith("DGX H100")


def test_a_profile_can_be_given_as_a_file_here_or_in_a_folder(tmp_path: Path) -> None:
    mine = catalogue(tmp_path)
    assert mine.load(tmp_path / "tiny.yaml").name == mine.load("tiny.yaml").name == "tiny"
    with pytest.raises(ProfileError, match="no such profile file"):
        mine.load("absent.yaml")
    with pytest.raises(ProfileError, match="no such folder"):
        Catalogue([tmp_path / "absent"])


def test_a_users_profile_extends_a_packaged_one(tmp_path: Path) -> None:
    text = "extends: h100-sxm-8.yaml\nname: half\n"
    text += "chip: {matrix: {units: 66, peak: {bf16: 494.7 TFLOP/s, fp16: 494.7 TFLOP/s, fp8: 990 TFLOP/s}}}\n"
    half, whole = catalogue(tmp_path, text, "half").load("half"), Catalogue().load("h100-sxm-8")
    assert half.chip.matrix.peak["bf16"] == whole.chip.matrix.peak["bf16"] / 2
    assert half.chip.memory == whole.chip.memory


def test_the_fabric_tells_rings_and_pairs_apart() -> None:
    shipped = Catalogue()
    assert shipped.load("tpu-v4-64").node.fabric.wrap
    assert not shipped.load("tpu-v6e-16").node.fabric.wrap
    mesh = shipped.load("mi300x-8").node.fabric
    assert [mesh.bandwidth_in(group) for group in (2, 4, 8)] == [64e9, 192e9, 448e9]
    assert shipped.load("h100-sxm-8").node.fabric.bandwidth_in(2) == 450e9
    assert Fabric(kind="none").bandwidth_in(1) == float("inf")


def test_profiles_have_a_json_schema() -> None:
    schema = Profile.model_json_schema()
    assert set(schema["required"]) >= {"name", "family", "label", "source", "chip", "node"}
    assert "hbm" in str(schema["$defs"]["MemoryTier"]["properties"]["tier"])


def test_packaged_files_are_found_in_the_checkout() -> None:
    assert (packaged_folder("hardware_profiles") / "h100-sxm-8.yaml").is_file()
