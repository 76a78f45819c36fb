"""A model as a scenario chooses it: by name, or a model with other FFNs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from simulator.errors import Problem, ScenarioError
from simulator.model.architecture import Architecture
from simulator.model.assembly import Change, with_ffns
from simulator.model.ffn.choice import AnyFFN
from simulator.model.zoo import load_model
from simulator.problems import Location, Places
from simulator.strict import Strict


class ModelChoice(Strict):
    """A model of the zoo, changed."""

    base: str = Field(description="Name from the zoo or path of a config.json.")
    name: str | None = Field(None, description="What results call it; made of the base and the changes when left out.")
    ffn: tuple[AnyFFN, ...] = Field((), description="FFNs that layers get, in order.")

    def title(self, base: str) -> str:
        """Its name, or 'base + kind + kind'."""
        return self.name or " + ".join([base, *dict.fromkeys(choice.kind for choice in self.ffn)])

    def build(self, folders: Sequence[Path], where: Places, at: Location) -> Architecture:
        """The architecture; `at` is the model's place in the scenario. Raise ScenarioError, ModelError."""
        architecture = load_model(self.base, folders)
        changes, problems = [], []
        for index, choice in enumerate(self.ffn):
            try:
                ffn, places = choice.build(), choice.places(architecture.layer_count)
            except ValueError as error:
                what, _, mend = str(error).partition("; ")
                problems.append(Problem(what, where((*at, "ffn", index)), mend or None))
                continue
            beside = ffn.beside if choice.beside is None else choice.beside
            changes.append(Change(ffn, tuple(places), beside, choice.dtype, choice.tier))
        if problems:
            raise ScenarioError(problems)
        return replace(with_ffns(architecture, changes), name=self.title(architecture.name))


def build_model(choice: str | ModelChoice, folders: Sequence[Path], where: Places, at: Location) -> Architecture:
    """The architecture of a name or of a choice."""
    return load_model(choice, folders) if isinstance(choice, str) else choice.build(folders, where, at)
