"""The command `ramwise`. Imports that cost time are made where they are used, so that --help answers at once."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from simulator.report.result import Report, RunResult

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells report it."""

app = typer.Typer(
    help="When is memory worth more than compute? Simulates large models on GPUs, DRAM nodes, TPUs and spatial chips.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
hardware_app = typer.Typer(help="Hardware profiles: list, show with sources, check a file.", no_args_is_help=True)
models_app = typer.Typer(help="Models: list, show.", no_args_is_help=True)
stacks_app = typer.Typer(help="Software stacks: list, show with sources.", no_args_is_help=True)
for name, group in (("hardware", hardware_app), ("models", models_app), ("stacks", stacks_app)):
    app.add_typer(group, name=name)

ScenarioFile = Annotated[str, typer.Argument(metavar="SCENARIO", help="A YAML file, or the name of a packaged one.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the results; ramwise-results/NAME when left out.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the scenario.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed in place of the scenario's.")]
Profiles = Annotated[
    list[Path] | None, typer.Option(metavar="DIR", help="Folder of profiles, stacks and models that come first.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print summary.json on stdout and nothing else.")]
NoPlots = Annotated[bool, typer.Option("--no-plots", help="Leave the plots out.")]


def main() -> None:
    """Entry point: mistakes of the user end in one line a problem on stderr and status 1, never in a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without × or — still gets its table
    try:
        from simulator.errors import RamwiseError

        try:
            app()
            sys.stdout.flush()
        except RamwiseError as error:
            typer.echo(f"ramwise: {error}", err=True)
            raise SystemExit(1) from None
    except OSError as error:
        # Standard output is full or gone. Nothing more can be written there, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        typer.echo(f"ramwise: cannot write: {error.strerror or error}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        typer.echo("ramwise: stopped before the first run was finished", err=True)
        raise SystemExit(INTERRUPTED) from None


@app.callback(invoke_without_command=True)
def version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """When is memory worth more than compute? Simulates large models on GPUs, DRAM nodes, TPUs and spatial chips."""
    if version:
        from simulator.report.result import version as installed

        typer.echo(f"ramwise {installed()}")
        raise typer.Exit


@app.command()
def run(
    scenario: ScenarioFile,
    out: Out = None,
    change: Set = None,
    seed: Seed = None,
    profiles: Profiles = None,
    as_json: AsJson = False,
    no_plots: NoPlots = False,
) -> None:
    """Run a scenario: a table, and a folder with summary.json, requests, a timeline and plots."""
    from simulator.report.tables import overview

    report, place = _run(scenario, out, change, seed, profiles, as_json, no_plots)
    if not as_json:
        _show(report, place, lambda width: overview(report, width))


@app.command()
def compare(
    scenario: ScenarioFile,
    out: Out = None,
    change: Set = None,
    seed: Seed = None,
    profiles: Profiles = None,
    as_json: AsJson = False,
    no_plots: NoPlots = False,
) -> None:
    """Run a scenario and set its machines side by side, a column each, with ratios to the best."""
    from simulator.report.comparison import side_by_side

    report, place = _run(scenario, out, change, seed, profiles, as_json, no_plots)
    if not as_json:
        _show(report, place, lambda width: side_by_side(report, width))


def _run(
    scenario: str,
    out: Path | None,
    change: list[str] | None,
    seed: int | None,
    profiles: list[Path] | None,
    as_json: bool,
    no_plots: bool,
) -> tuple[Report, Path]:
    """Run and write; after Ctrl-C write what was finished, then leave."""
    from simulator.report.folder import check, summary_json, write
    from simulator.report.result import Report
    from simulator.scenario import read_scenario
    from simulator.serve import run as run_scenario

    path = _find_scenario(scenario)
    place = check(out or Path("ramwise-results") / path.stem)
    read, source = read_scenario(path, tuple(change or ()))
    done: list[RunResult] = []
    try:
        with _progress(quiet=as_json) as progress:
            report = run_scenario(
                read, source, profiles=profiles or (), seed=seed, progress=progress, finished=done.append
            )
        place = write(report, place, plots=not no_plots)
    except KeyboardInterrupt:
        if not done:
            typer.echo("ramwise: stopped before the first run was finished", err=True)
            raise SystemExit(INTERRUPTED) from None
        partial = Report(path.stem, read.seed if seed is None else seed, tuple(done))
        place = write(partial, place, plots=False, complete=False)
        typer.echo(f"ramwise: stopped; what was finished is in {place} (runs: {len(done)})", err=True)
        raise SystemExit(INTERRUPTED) from None
    if as_json:
        sys.stdout.write(summary_json(report))
    return report, place


def _find_scenario(name: str) -> Path:
    """A file, or the name of a packaged scenario."""
    from simulator.errors import Problem, ScenarioError, unknown
    from simulator.hardware.catalogue import packaged_folder

    path = Path(name)
    if path.is_file():
        return path
    packaged = {found.stem: found for found in sorted(packaged_folder("scenarios").glob("*.yaml"))}
    if path.stem in packaged and (path.suffix in ("", ".yaml")) and len(path.parts) <= 2:
        return packaged[path.stem]
    if path.suffix:
        raise ScenarioError(Problem(f"no such file: {name}", mend="packaged scenarios: " + ", ".join(packaged)))
    raise ScenarioError(unknown("scenario", name, packaged))


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """A progress bar on a terminal; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def tell(title: str, done: int, of: int) -> None:
            if title not in tasks:
                tasks[title] = bar.add_task(title, total=of)
            bar.update(tasks[title], completed=done)

        yield tell


def _show(report: Report, place: Path, table: Callable[[int], Any]) -> None:
    from rich.console import Console

    console = Console()
    console.print(table(console.width))
    console.print(f"results: {place}", soft_wrap=True, highlight=False)


@app.command()
def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[CSV...]", help="Measurements; the shipped ones when left out.")
    ] = None,
    stack: Annotated[str | None, typer.Option(help="Only rows of this software stack.")] = None,
    chip: Annotated[str | None, typer.Option(help="Only rows of this chip, as rows or profiles name it.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only rows of this metric.")] = None,
    profiles: Profiles = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figures, the rows and two plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")] = False,
) -> None:
    """Simulated against measured: errors by family, chip, stack and metric, the worst rows, and what is left out."""
    from simulator.validation.report import print_validation, write_validation
    from simulator.validation.validation import validate as compare_rows

    found = compare_rows(files or (), stack=stack, chip=chip, metric=metric, profiles=profiles or ())
    if out is not None:
        write_validation(found, out)
    if as_json:
        sys.stdout.write(json.dumps(found.document(), allow_nan=False) + "\n")
        return
    from rich.console import Console

    print_validation(found, Console().width)


@app.command()
def schema(
    what: Annotated[str, typer.Argument(metavar="scenario|hardware|stack")] = "scenario",
) -> None:
    """Print the JSON Schema of scenarios, hardware profiles or stacks, for editors."""
    from simulator.errors import InputError, unknown
    from simulator.hardware.profile import Profile
    from simulator.scenario import Scenario
    from simulator.stack.stack import Stack

    kinds: dict[str, Any] = {"scenario": Scenario, "hardware": Profile, "stack": Stack}
    if what not in kinds:
        raise InputError(unknown("schema", what, kinds))
    typer.echo(json.dumps(kinds[what].model_json_schema(), indent=2))


@app.command()
def init(path: Annotated[Path, typer.Argument(help="File to write.")] = Path("scenario.yaml")) -> None:
    """Write a commented scenario to start from."""
    from simulator.errors import OutputError
    from simulator.hardware.catalogue import packaged_folder

    if path.exists():
        raise OutputError(f"{path} exists; give another name: ramwise init NAME.yaml")
    text = (packaged_folder("scenarios") / "first.yaml").read_text(encoding="utf-8")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    typer.echo(f"wrote {path}; run it: ramwise run {path}")


@hardware_app.command("list")
def hardware_list(profiles: Profiles = None, as_json: AsJson = False) -> None:
    """Every hardware profile, its family and main figures."""
    from simulator.hardware.catalogue import Catalogue
    from simulator.report.catalogues import hardware_table, print_rows

    catalogue = Catalogue(profiles or ())
    print_rows(hardware_table([catalogue.load(name) for name in catalogue.names()]), as_json)


@hardware_app.command("show")
def hardware_show(name: str, profiles: Profiles = None, as_json: AsJson = False) -> None:
    """Every number of a profile, how it is known and from where."""
    from simulator.hardware.catalogue import Catalogue
    from simulator.report.catalogues import facts_table, print_rows

    print_rows(facts_table(Catalogue(profiles or ()).load(name).provenance()), as_json)


@hardware_app.command("check")
def hardware_check(files: Annotated[list[Path], typer.Argument(metavar="FILE...")]) -> None:
    """Check hardware profiles: units, sources, and numbers that contradict each other."""
    from simulator.errors import InputError, Problem
    from simulator.hardware.catalogue import Catalogue

    problems: list[Problem] = []
    for file in files:
        try:
            profile = Catalogue().load(file if file.suffix else f"{file}.yaml")
        except InputError as error:
            problems += error.problems
        else:
            typer.echo(f"{file}: '{profile.name}' is sound; its weakest label is {profile.weakest_label()}")
    if problems:
        raise InputError(problems)


@models_app.command("list")
def models_list(profiles: Profiles = None, as_json: AsJson = False) -> None:
    """Every model of the zoo with its parameters."""
    from simulator.model.zoo import load_model, model_names
    from simulator.report.catalogues import models_table, print_rows

    folders = profiles or []
    print_rows(models_table([load_model(name, folders) for name in model_names(folders)]), as_json)


@models_app.command("show")
def models_show(name: str, profiles: Profiles = None, as_json: AsJson = False) -> None:
    """A model: shape, parameters by tensor class beside the published total, KV cache of a token."""
    from simulator.model.zoo import load_model, published
    from simulator.report.catalogues import model_table, print_rows

    print_rows(model_table(load_model(name, profiles or ()), published(name)), as_json)


@stacks_app.command("list")
def stacks_list(profiles: Profiles = None, as_json: AsJson = False) -> None:
    """Every software stack, its date and where it runs."""
    from simulator.report.catalogues import print_rows, stacks_table
    from simulator.stack.stack import Stacks

    stacks = Stacks(profiles or ())
    print_rows(stacks_table([stacks.load(name) for name in stacks.paths()]), as_json)


@stacks_app.command("show")
def stacks_show(name: str, profiles: Profiles = None, as_json: AsJson = False) -> None:
    """Every number of a stack, how it is known and from where."""
    from simulator.report.catalogues import facts_table, print_rows
    from simulator.stack.stack import Stacks

    print_rows(facts_table(Stacks(profiles or ()).load(name).provenance()), as_json)


if __name__ == "__main__":
    main()
