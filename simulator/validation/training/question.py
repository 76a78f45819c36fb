"""What a row of a training run asks: a model, a recipe, a layout and a machine; or why it cannot be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import log2
from pathlib import Path

from simulator.cost.training.machine import TrainingMachine
from simulator.cost.training.step import Recipe
from simulator.errors import InputError
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.profile import Profile
from simulator.model.architecture import Architecture, group_layers
from simulator.model.attention import GroupedQueryAttention
from simulator.model.ffn.dense import DenseFFN
from simulator.model.number_format import Precision
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.micro_batch import Recompute
from simulator.model.zoo import load_model, model_names
from simulator.stack.training.stack import TrainingStacks
from simulator.validation import aliases
from simulator.validation.rows import Reason
from simulator.validation.training.rows import TrainingRow

FORMATS = {
    "bf16": "bf16",
    "fp16": "fp16",
    "fp8": "fp8",
    "mxfp8": "fp8",
    "int8": "int8",
    "nvfp4": "nvfp4",
}
TIMED = ("iteration_time_s", "tokens_per_s_per_chip", "tflops_per_chip")
PALM_POD = 3072
BLOOM_GRADIENTS = {"fp16": 2.0, "bf16": 6.0}  # 16 bits, and with bf16 a sum in fp32 beside them
RECOMPUTE: dict[str, Recompute] = {"none": "none", "selective": "selective", "full": "full"}


@dataclass(frozen=True)
class TrainingQuestion:
    """A step that can be simulated, and the row in seconds."""

    row: TrainingRow
    architecture: Architecture
    recipe: Recipe
    layout: TrainingLayout
    machine: TrainingMachine
    assumed: str = ""


class TrainingInterpreter:
    """Reads rows; `folders` of machines, stacks and models come before the packaged ones."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._folders = tuple(folders)
        self._catalogue = Catalogue(folders)
        self._stacks = TrainingStacks(folders)

    def site(self, row: TrainingRow) -> aliases.Entry | None:
        """The stack and network of a row, by the beginning of its id and of its chip's name."""
        found = aliases.longest("training", id=row.id, hardware=row.hardware)
        return found[0] if found else None

    def profile(self, row: TrainingRow) -> Profile | None:
        """The machine of a row, None where there is no profile of it."""
        entry = aliases.exact("training_chips", "hardware", row.hardware)
        if entry is None or entry["profile"] not in self._catalogue.names():
            return None
        return self._catalogue.load(entry["profile"])

    def ask(self, row: TrainingRow) -> TrainingQuestion | Reason:
        """The question of a row, or why it cannot be asked."""
        if row.metric not in TIMED:
            return Reason(f"{row.metric} is not a time or a rate of steps")
        site, profile = self.site(row), self.profile(row)
        if profile is None:
            return Reason(f"no profile of {row.hardware}")
        if site is None or site["stack"] not in self._stacks.paths():
            return Reason("no training stack for the row")
        batch, length, chips = row.number("global_batch_seqs"), row.number("seq_len"), row.number("n_chips")
        if batch is None or length is None or chips is None:
            return Reason("batch, sequence length or chips not stated")
        format = FORMATS.get(row.cells["dtype"])
        if format is None:
            return Reason("number format not stated")
        model = _architecture(row)
        if isinstance(model, Reason):
            return model
        layout = _layout(row, site, profile, int(chips))
        if isinstance(layout, Reason):
            return layout
        micro, assumed = _micro_batch(row, layout, profile)
        if not _stated(row) and layout.chips > 1:
            assumed = "FSDP over all chips where the layout is not stated"
        recompute = RECOMPUTE.get(row.cells["recompute"])
        if recompute is None:
            recompute = RECOMPUTE[site["recompute"]]
            assumed = assumed or f"recompute {recompute} where it is not stated"
        micro = min(micro, batch / layout.dp)
        if micro < 0.5:
            return Reason("more replicas than sequences")
        recipe = Recipe(
            int(batch),
            micro,
            int(length),
            Precision(weights=format, kv="bf16", embedding="bf16", head="bf16"),
            recompute,
            frozen="lora" in row.model.lower(),
            gradient_bytes=BLOOM_GRADIENTS[row.cells["dtype"]] if row.id.startswith("bloom") else 4.0,
        )
        timed = _timed(row, model, recipe)
        if isinstance(timed, Reason):
            return timed
        try:
            stack = self._stacks.load(site["stack"]).on_profile(profile)
            stated = site["network_gb_per_s"]
            network = 1e9 * float(stated) if stated else None
        except InputError as error:
            return Reason(str(error).splitlines()[0])
        machine = TrainingMachine(profile, stack, int(chips), layout.slices, network)
        return TrainingQuestion(timed, model, recipe, layout, machine, assumed)


def _timed(row: TrainingRow, model: Architecture, recipe: Recipe) -> TrainingRow | Reason:
    """The row as seconds of a step. Rates of FLOPs are undone with the formula of their own source."""
    tokens = recipe.global_batch * recipe.length
    chips = row.number("n_chips") or 1.0
    if row.metric == "iteration_time_s":
        return row
    if row.metric == "tokens_per_s_per_chip":
        return row.in_seconds(tokens / chips / row.value, "from tokens/s")
    hidden, layers, vocab, s = model.hidden_size, model.layer_count, model.vocab_size, recipe.length
    if row.id.startswith("narayanan21"):
        flops = 96.0 * tokens * layers * hidden**2 * (1.0 + s / (6.0 * hidden) + vocab / (16.0 * layers * hidden))
    elif row.id.startswith("mcore"):
        flops = 72.0 * tokens * layers * hidden**2 * (1.0 + s / (6.0 * hidden) + vocab / (12.0 * layers * hidden))
    elif row.id.startswith("maxtext"):
        attention = model.layers[0].attention
        width = attention.heads * attention.head_dim if isinstance(attention, GroupedQueryAttention) else hidden
        flops = tokens * (6.0 * model.total_parameters() + 12.0 * layers * width * s)
    else:
        return Reason("FLOP/s by an unknown formula")
    return row.in_seconds(flops / chips / (row.value * 1e12), "from TFLOP/s by the source's own formula")


def _micro_batch(row: TrainingRow, layout: TrainingLayout, profile: Profile) -> tuple[float, str]:
    """Sequences of a micro-batch of one replica."""
    stated = row.number("micro_batch")
    if stated is None:
        if row.id.startswith("mcore"):
            return (4.0 if layout.tp < 8 else 2.0 if layout.pp <= 2 else 1.0), "micro-batch where it is not stated"
        if profile.family == "tpu-mesh":
            return float("inf"), ""  # one micro-batch a step
        return 1.0, "micro-batch where it is not stated"
    if profile.family == "tpu-mesh":
        return stated * layout.tp, ""  # TPU rows count sequences a chip
    if row.id.startswith("torchtitan") and layout.pp > 1:
        return max(1.0, stated / layout.pp), ""
    return stated, ""


def _layout(row: TrainingRow, site: aliases.Entry, profile: Profile, chips: int) -> TrainingLayout | Reason:
    if chips > 1 and not _stated(row) and profile.family != "tpu-mesh":
        return Reason("layout not stated")
    tp, pp, cp, ep = (row.whole(name) for name in ("tp", "pp", "cp", "ep"))
    vpp = row.whole("vpp") if pp > 1 else 1
    if chips % (tp * pp * cp):
        return Reason("degrees do not multiply to the chips")
    slices = 1
    if profile.family == "tpu-mesh":
        size = row.whole("chips_per_node", chips)
        # MaxText's rows give the chips of a slice; PaLM's two pods had 3,072 each.
        size = PALM_POD if row.id.startswith("palm") else size
        slices = max(1, chips // size) if row.id.startswith(("maxtext", "palm")) else 1
    parallel = row.cells["sequence_parallel"] or site["sequence_parallel"]
    zero = row.cells["zero_stage"] if _stated(row) else "3"
    return TrainingLayout(
        tp=tp,
        pp=pp,
        dp=chips // (tp * pp * cp),
        ep=ep,
        cp=cp,
        vpp=vpp,
        sequence_parallel=parallel == "y" and tp > 1,
        zero=int(zero) if zero.isdigit() else 1,
        slices=slices,
    )


def _stated(row: TrainingRow) -> bool:
    return any(row.cells[name] for name in ("tp", "pp", "dp", "zero_stage"))


@cache
def _known_models() -> frozenset[str]:
    return frozenset(model_names())


@cache
def _zoo(name: str) -> Architecture:
    return load_model(name)


def _architecture(row: TrainingRow) -> Architecture | Reason:
    entries = aliases.longest("training_models", model=row.model)
    entry = entries[0] if entries else {"zoo": "", "matrices": "3", "head_dim": ""}
    layers = row.number("layers")
    if entry["zoo"] and entry["zoo"] in _known_models():
        model = _zoo(entry["zoo"])
        return _cut(model, int(layers)) if layers and layers != model.layer_count else model
    shape = _maxtext(row) if row.model.startswith("MaxText") and not layers else _columns(row, entry)
    if shape is None:
        return Reason("shape of the model not stated")
    return shape


def _cut(model: Architecture, layers: int) -> Architecture:
    """The first `layers` layers of the model."""
    return replace(model, layers=group_layers(model.shapes()[:layers]))


def _columns(row: TrainingRow, entry: aliases.Entry) -> Architecture | None:
    layers, hidden, vocab = (row.number(name) for name in ("layers", "hidden", "vocab"))
    ffn = row.number("ffn_hidden")
    if layers is None or hidden is None or ffn is None or row.cells["moe"]:
        return None
    heads = row.number("heads") or _aligned(hidden)
    width = float(entry["head_dim"]) if entry["head_dim"] and hidden >= 4096 else hidden / heads
    kv_heads = row.number("kv_heads") or heads
    attention = GroupedQueryAttention(int(heads), int(kv_heads), int(width))
    return Architecture(
        name=row.model,
        source="the columns of the row",
        hidden_size=int(hidden),
        vocab_size=int(vocab or 50257),
        max_context=row.whole("seq_len"),
        layers=group_layers([(attention, DenseFFN(int(ffn), int(entry["matrices"] or 3)))] * int(layers)),
        tied_embeddings=entry["matrices"] == "2",
    )


def _aligned(hidden: float) -> float:
    """Heads where a row states none: as many as give heads of 128, the width that kernels like best."""
    return max(1.0, hidden // 128)


def _maxtext(row: TrainingRow) -> Architecture | None:
    """MaxText-NB: log2(N) = 3q + r; layers 16 2^q, hidden 2048 2^(q + (r = 2)), heads 16 2^(q + (r > 0)) of 256, gated
    FFN 7168 2^(q + (r > 0)) (recalled)."""
    size = row.model.removeprefix("MaxText-").removesuffix("B")
    if not size.isdigit() or int(size) & (int(size) - 1):
        return None
    q, r = divmod(int(log2(int(size))), 3)
    attention = GroupedQueryAttention(16 << (q + (r > 0)), 16 << (q + (r > 0)), 256)
    return Architecture(
        name=row.model,
        source="MaxText's rule for its sizes (recalled)",
        hidden_size=2048 << (q + (r == 2)),
        vocab_size=row.whole("vocab", 32000),
        max_context=row.whole("seq_len"),
        layers=group_layers([(attention, DenseFFN(7168 << (q + (r > 0)), 3))] * (16 << q)),
    )
