"""What a row of a training run asks: a model, a recipe, a layout and a machine; or why it cannot be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.cost.training.machine import TrainingMachine
from simulator.errors import InputError
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.profile import Profile
from simulator.model.architecture import Architecture
from simulator.model.attention import GroupedQueryAttention
from simulator.model.number_format import Precision
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.recipe import Recipe
from simulator.model.training.recompute import Recompute
from simulator.stack.training.stack import TrainingStacks
from simulator.validation import aliases
from simulator.validation.rows import RefusedError, answered
from simulator.validation.training.model import architecture_of
from simulator.validation.training.rows import TrainingRow
from simulator.validation.training.script import script_of

FORMATS = {
    "bf16": "bf16",
    "fp16": "fp16",
    "fp8": "fp8",
    "mxfp8": "fp8",
    "int8": "int8",
    "nvfp4": "nvfp4",
}
TIMED = ("iteration_time_s", "tokens_per_s_per_chip", "tflops_per_chip", "mfu")
PALM_POD = 3072
LORA_RANK = 16  # MLPerf Training's Llama-2 70B LoRA; rows of Megatron-Bridge do not state theirs
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

    @answered
    def ask(self, row: TrainingRow) -> TrainingQuestion:
        """The question of a row. RefusedError where it cannot be asked."""
        if row.metric not in TIMED:
            raise RefusedError(f"{row.metric} is not a time or a rate of steps")
        site, profile = self.site(row), self.profile(row)
        if profile is None:
            raise RefusedError(f"no profile of {row.hardware}")
        if site is None or site["stack"] not in self._stacks.paths():
            raise RefusedError("no training stack for the row")
        batch, length, chips = row.number("global_batch_seqs"), row.number("seq_len"), row.number("n_chips")
        if batch is None or length is None or chips is None:
            raise RefusedError("batch, sequence length or chips not stated")
        format = FORMATS.get(row.cells["dtype"])
        if format is None:
            raise RefusedError("number format not stated")
        model = architecture_of(row)
        layout = _layout(row, site, profile, int(chips))
        micro, assumed = _micro_batch(row, layout, profile)
        if not _stated(row) and layout.chips > 1:
            assumed = "FSDP over all chips where the layout is not stated"
        script = script_of(row)
        recompute = RECOMPUTE.get(row.cells["recompute"], script.recompute)
        if recompute is None:
            recompute = RECOMPUTE[site["recompute"]]
            assumed = assumed or f"recompute {recompute} where it is not stated"
        micro = min(micro, batch / layout.dp)
        if micro < 0.5:
            raise RefusedError("more replicas than sequences")
        recipe = Recipe(
            int(batch),
            micro,
            int(length),
            Precision(weights=format, kv="bf16", embedding="bf16", head="bf16"),
            recompute,
            adapters=LORA_RANK if "lora" in row.model.lower() else 0,
            predictors=script.predictors,
            wide_layers=script.wide_layers,
            graphs=script.graphs,
            once=script.once,
            overlap=script.overlap,
            schedule=script.schedule or ("interleaved" if layout.vpp > 1 else "1f1b"),
            gradient_bytes=BLOOM_GRADIENTS[row.cells["dtype"]] if row.id.startswith("bloom") else 4.0,
        )
        timed = _timed(row, model, recipe, profile.sixteen_bit_peak)
        try:
            stack = self._stacks.load(site["stack"]).on_profile(profile)
            stated = site["network_gb_per_s"]
            network = 1e9 * float(stated) if stated else None
        except InputError as error:
            raise RefusedError(str(error).splitlines()[0]) from None
        machine = TrainingMachine(profile, stack, int(chips), layout.slices, network)
        return TrainingQuestion(timed, model, recipe, layout, machine, assumed)


def _timed(row: TrainingRow, model: Architecture, recipe: Recipe, peak: float) -> TrainingRow:
    """The row as seconds of a step. Rates of FLOPs, and shares of the 16-bit peak, are undone with the formula of their
    own source."""
    tokens = recipe.global_batch * recipe.length
    chips = row.number("n_chips") or 1.0
    if row.metric == "iteration_time_s":
        return row
    if row.metric == "tokens_per_s_per_chip":
        return row.in_seconds(tokens / chips / row.value, "from tokens/s")
    flops = _published_flops(row, model, recipe.length)
    if flops is None:
        raise RefusedError("FLOP/s by an unknown formula")
    rate, unit = (row.value / 100.0 * peak, "MFU") if row.metric == "mfu" else (row.value * 1e12, "TFLOP/s")
    return row.in_seconds(tokens * flops / chips / rate, f"from {unit} by the source's own formula")


def _published_flops(row: TrainingRow, model: Architecture, s: int) -> float | None:
    """FLOPs of a token as the row's source counts them."""
    hidden, layers, vocab = model.hidden_size, model.layer_count, model.vocab_size
    if row.id.startswith("narayanan21"):
        return 96.0 * layers * hidden**2 * (1.0 + s / (6.0 * hidden) + vocab / (16.0 * layers * hidden))
    if row.id.startswith(("mcore", "korth22", "megascale")):
        return 72.0 * layers * hidden**2 * (1.0 + s / (6.0 * hidden) + vocab / (12.0 * layers * hidden))
    if row.id.startswith(("maxtext", "palm")):
        attention = model.layers[0].attention
        width = attention.heads * attention.head_dim if isinstance(attention, GroupedQueryAttention) else hidden
        return 6.0 * model.total_parameters() + 12.0 * layers * width * s
    return None


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


def _layout(row: TrainingRow, site: aliases.Entry, profile: Profile, chips: int) -> TrainingLayout:
    if chips > 1 and not _stated(row) and profile.family != "tpu-mesh":
        raise RefusedError("layout not stated")
    tp, pp, cp, ep = (row.whole(name) for name in ("tp", "pp", "cp", "ep"))
    vpp = row.whole("vpp") if pp > 1 else 1
    batch = row.whole("global_batch_seqs")
    if profile.family == "tpu-mesh" and not _stated(row) and chips > batch and chips % batch == 0:
        cp = chips // batch  # FSDP needs a sequence on every chip; what is left over cuts the sequences
    if chips % (tp * pp * cp):
        raise RefusedError("degrees do not multiply to the chips")
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
