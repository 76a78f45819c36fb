"""Contenders of equal quality: one size of each model is changed until all are predicted to have the same loss.

    at_equal_loss:
      vary: {my-model: {key: "ffn[0].width", multiple: 256}, my-tables: {key: "ffn[0].rows"}}

The loss of the reference is the aim. A size, a multiple of a whole number, is sought by halving the ratio of two ends,
REACH below and above what is written. Where the aim is not between the losses of the ends, or no law knows the model,
it stays as it is, and what is said of the study lists every loss and that they differ. Precision is the scenario's,
not a machine's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Annotated

from pydantic import Field

from simulator.errors import Problem, ScenarioError, Where, unknown
from simulator.model.number_format import Precision
from simulator.model.quality import DISTINGUISHABLE, quality
from simulator.scenario import Scenario, changed, scenario_of, value_at
from simulator.scenario.model import ModelChoice, build_model, model_places
from simulator.strict import Strict
from simulator.yaml_source import Source

REACH = 64.0
"""Factor within which a size is sought, down and up."""

CLOSE = 1e-6
"""Logarithm of the ratio of two sizes between which no further one is tried."""


class Size(Strict):
    """A dimension of a model."""

    key: str = Field(description="Where the model writes it: ffn[0].rows.")
    multiple: Annotated[int, Field(gt=0)] = Field(1, description="It stays a multiple of this: chips divide it.")


class EqualLoss(Strict):
    """Which size of which model is changed."""

    vary: dict[str, Size] = Field(min_length=1, description="Name of a model -> its size that is changed.")
    reference: str | None = Field(None, description="The model whose loss all are to have; the first when left out.")
    tolerance: Annotated[float, Field(gt=0)] = Field(DISTINGUISHABLE, description="Nats within which losses are equal.")

    def keeps(self, level: Level, levels: Sequence[Level]) -> bool:
        """Whether a model is as good as the reference of its set."""
        names = [each.model for each in levels]
        aim = levels[names.index(self.reference) if self.reference in names else 0].loss
        return level.loss is not None and aim is not None and abs(level.loss - aim) <= self.tolerance


@dataclass(frozen=True)
class Level:
    """A model, its predicted loss (None: no law knows it), and its size before and after, where one was changed."""

    model: str
    loss: float | None
    key: str = ""
    before: float = 0.0
    after: float = 0.0


def losses(scenario: Scenario, source: Source, folders: Sequence[Path]) -> tuple[Level, ...]:
    """The predicted loss of every model of a scenario, as it is written."""
    at = model_places(scenario.model)
    found = []
    for model, place in zip(scenario.models, at, strict=True):
        architecture = build_model(model, folders, source.where, place)
        precision = scenario.precision.over(architecture.precision or Precision())
        found.append(Level(str(model), quality(architecture, precision, float(scenario.training_tokens)).loss))
    return tuple(found)


class Leveller:
    """Makes scenarios equal in loss; each set of models once. `levels` holds what was found, in order."""

    def __init__(self, wanted: EqualLoss, folders: Sequence[Path], at: Where) -> None:
        self._wanted, self._folders, self._at = wanted, tuple(folders), at
        self._sizes: dict[str, Mapping[str, int]] = {}
        self.levels: list[tuple[Level, ...]] = []

    def levelled(self, source: Source) -> Source:
        """The scenario with its models resized. Raise ScenarioError for a name or a key that leads nowhere."""
        scenario = scenario_of(source)
        parts = {"model", "precision", "training_tokens"}
        known = scenario.model_dump_json(include=parts)
        if known not in self._sizes:
            self._sizes[known] = self._sought(source, scenario)
        for key, size in self._sizes[known].items():
            source = changed(source, key, str(size), f"{self._at}: at_equal_loss")
        return source

    def _sought(self, source: Source, scenario: Scenario) -> dict[str, int]:
        """Key of the scenario -> size; what was found is noted in `levels`."""
        names = [model if isinstance(model, str) else model.title(model.base) for model in scenario.models]
        reference = self._wanted.reference or names[0]
        for name in (reference, *self._wanted.vary):
            if name not in names:
                raise ScenarioError(unknown("model", name, names, self._at))
        aim = self._loss(source, names.index(reference))
        sizes: dict[str, int] = {}
        levels = []
        for index, name in enumerate(names):
            if name not in self._wanted.vary or name == reference:
                levels.append(Level(name, self._loss(source, index)))
                continue
            size = self._wanted.vary[name]
            key = f"model[{index}].{size.key}"
            before = value_at(scenario, key)
            if not isinstance(scenario.models[index], ModelChoice) or not isinstance(before, int) or before < 1:
                mend = "name a whole number that the scenario writes, such as ffn[0].rows"
                raise ScenarioError(Problem(f"at_equal_loss: {name} has no size {size.key}", self._at, mend))
            after = self._sized(source, index, key, size.multiple, aim) if aim is not None else None
            after = before if after is None else after
            sizes[key] = after
            loss = self._loss(changed(source, key, str(after), str(self._at)), index)
            levels.append(Level(name, loss, size.key, before, after))
        self.levels.append(tuple(levels))
        return sizes

    def _sized(self, source: Source, index: int, key: str, multiple: int, aim: float) -> int | None:
        """The size at which the loss is nearest to `aim`; None where the reach does not hold it."""

        def above(count: int) -> float | None:
            """Nats above the aim at so many multiples."""
            loss = self._loss(changed(source, key, str(count * multiple), str(self._at)), index)
            return None if loss is None else loss - aim

        written = int(value_at(scenario_of(source), key)) / multiple
        low, high = self._smallest(source, key, multiple, written), max(1, round(written * REACH))
        at_low, at_high = above(low), above(high)
        if at_low is None or at_high is None or (at_low > 0) == (at_high > 0):
            return None
        falls = at_low > 0
        while high - low > 1 and log(high / low) > CLOSE:
            middle = min(max(low + 1, round((low * high) ** 0.5)), high - 1)
            low, high = (middle, high) if ((above(middle) or 0.0) > 0) == falls else (low, middle)
        return multiple * min((low, high), key=lambda count: abs(above(count) or 0.0))

    def _smallest(self, source: Source, key: str, multiple: int, written: float) -> int:
        """The fewest multiples that are tried: a size that a kind refuses (too few experts, say) is doubled."""
        count = max(1, round(written / REACH))
        while count < written:
            try:
                scenario_of(changed(source, key, str(count * multiple), str(self._at)))
            except ScenarioError:
                count *= 2
            else:
                break
        return count

    def _loss(self, source: Source, index: int) -> float | None:
        scenario = scenario_of(source)
        model = build_model(scenario.models[index], self._folders, source.where, ("model", index))
        precision = scenario.precision.over(model.precision or Precision())
        return quality(model, precision, float(scenario.training_tokens)).loss


def level_lines(levels: Sequence[Sequence[Level]], tolerance: float) -> list[str]:
    """What is said of a study: whether its contenders are equal, what was resized, every loss.

    Where an axis changes the models themselves, there are many sets: of the equal ones two are shown.
    """
    lines = []
    sets = list(dict.fromkeys(tuple(level) for level in levels))
    alike = sorted((one for one in sets if _equal(one, tolerance)), key=lambda one: [level.after for level in one])
    shown = [*alike[:1], *alike[1:][-1:], *(one for one in sets if one not in alike)]
    if len(shown) < len(sets):
        lines.append(f"{len(alike)} sets of models at equal loss; those with the smallest and the largest sizes:")
    for one in shown:
        equal = _equal(one, tolerance)
        lines.append(f"at equal loss, within {tolerance:g} nats:" if equal else "the predicted losses differ:")
        for level in one:
            loss = "no law is known" if level.loss is None else f"{level.loss:.3f} nats"
            resized = f", {level.key} {level.before:,} -> {level.after:,}" if level.before != level.after else ""
            lines.append(f"  {level.model}: {loss}{resized}")
    return lines


def _equal(levels: Sequence[Level], tolerance: float) -> bool:
    """Whether all losses are known and within the tolerance of one another's middle."""
    known = [level.loss for level in levels if level.loss is not None]
    return len(known) == len(levels) and max(known) - min(known) <= 2 * tolerance
