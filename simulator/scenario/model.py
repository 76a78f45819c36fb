"""A model as a scenario chooses it: by name, or a model with other FFNs or another depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from simulator.errors import Problem, ScenarioError, Where
from simulator.findings import Findings
from simulator.model.architecture import Architecture
from simulator.model.assembly import Change, with_ffns, with_popularity
from simulator.model.depth import AnyDepth
from simulator.model.ffn.choice import AnyFFN
from simulator.model.ffn.kind import FFN
from simulator.model.popularity import Trace, Uniform, Zipf
from simulator.model.zoo import load_model
from simulator.problems import Location, Places
from simulator.strict import Strict


class ModelChoice(Strict):
    """A model of the zoo, changed."""

    base: str = Field(description="Name from the zoo or path of a config.json.")
    name: str | None = Field(None, description="What results call it; made of the base and the changes when left out.")
    ffn: tuple[AnyFFN, ...] = Field((), description="FFNs that layers get, in order.")
    popularity: Uniform | Zipf | None = Field(
        None,
        description="How often each expert is asked for, of layers whose FFN does not say: zipf or uniform. Ranks (ep) "
        "are then loaded unequally.",
    )
    depth: AnyDepth | None = Field(None, description="How many layers a token passes; all when left out.")

    def title(self, base: str) -> str:
        """Its name, or 'base + kind + kind'."""
        kinds = [choice.kind for choice in self.ffn] + ([self.depth.kind] if self.depth else [])
        return self.name or " + ".join([base, *dict.fromkeys(kinds)])

    def __str__(self) -> str:
        """What tables call it."""
        return self.title(self.base)

    def build(self, folders: Sequence[Path], where: Places, at: Location) -> Architecture:
        """The architecture; `at` is the model's place in the scenario. Raise ScenarioError, ModelError."""
        architecture = load_model(self.base, folders)
        changes, problems = [], []
        for index, choice in enumerate(self.ffn):
            try:
                ffn, places = _traced(choice.build(), folders), choice.places(architecture.layer_count)
            except ValueError as error:
                problems.append(_problem(error, where((*at, "ffn", index))))
                continue
            beside = ffn.beside if choice.beside is None else choice.beside
            changes.append(Change(ffn, tuple(places), beside, choice.dtype, choice.tier))
        if problems:
            raise ScenarioError(problems)
        changed = with_ffns(architecture, changes)
        if self.popularity is not None:
            if not any(layer.ffn and layer.ffn.routed_experts for layer in changed.layers):
                what = f"popularity of experts, but {self.title(architecture.name)} has none"
                raise ScenarioError(Problem(what, where((*at, "popularity")), "leave popularity out"))
            changed = with_popularity(changed, self.popularity)
        if self.depth:
            try:
                changed = self.depth.applied(changed)
            except ValueError as error:
                raise ScenarioError(_problem(error, where((*at, "depth")))) from error
        return replace(changed, name=self.title(architecture.name))


def _traced(ffn: FFN, folders: Sequence[Path]) -> FFN:
    """The FFN with the file of its trace found. Raise ValueError where it is not."""
    popularity = getattr(ffn, "popularity", None)
    if not isinstance(popularity, Trace):
        return ffn
    return replace(ffn, popularity=popularity.found(folders))  # type: ignore[type-var]


def _problem(error: ValueError, where: Where) -> Problem:
    what, _, mend = str(error).partition("; ")
    return Problem(what, where, mend or None)


def build_model(choice: str | ModelChoice, folders: Sequence[Path], where: Places, at: Location) -> Architecture:
    """The architecture of a name or of a choice."""
    return load_model(choice, folders) if isinstance(choice, str) else choice.build(folders, where, at)


def model_places(written: object) -> list[Location]:
    """Where each model of a scenario's `model` stands: one, or several in a list."""
    return [("model", index) for index in range(len(written))] if isinstance(written, tuple) else [("model",)]


def build_models(
    models: Sequence[str | ModelChoice], at: Sequence[Location], folders: Sequence[Path], where: Places, wrong: Findings
) -> list[Architecture]:
    """The architectures of a scenario's models that can be built; what is wrong with the others goes to `wrong`."""
    built = []
    for model, place in zip(models, at, strict=True):
        with wrong.at(where(place)):
            built.append(build_model(model, folders, where, place))
    return built
