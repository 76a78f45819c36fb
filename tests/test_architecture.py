"""The folder picture is the data flow: imports point down, files are short, slow libraries stay where they belong."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "simulator"
LONGEST = 400

LAYERS = (
    ("__main__",),
    ("__init__", "cli"),
    ("api",),
    ("study", "validation"),
    ("train", "samples"),
    ("serve",),
    ("workload",),
    ("scenario",),
    ("report",),
    ("metrics",),
    ("engine",),
    ("cost",),
    ("stack", "hardware", "model"),
    ("provenance",),
    ("yaml_source", "strict", "problems", "findings", "executor"),
    ("quantity", "errors", "progress"),
)
"""Parts of the package from top to bottom; a part may import from its own folder and from the rows below it."""

BESIDE = {
    ("stack", "simulator.model.number_format"),
    ("stack", "simulator.hardware.profile"),
    ("hardware", "simulator.model.number_format"),
    ("validation", "simulator.study"),
    ("cli", "simulator"),
    ("yaml_source", "simulator.problems"),
    ("quantity", "simulator.errors"),
}
"""Imports between parts of one row."""

HEIGHT = {part: -row for row, parts in enumerate(LAYERS) for part in parts}


def modules(package: Path) -> dict[str, ast.Module]:
    """Module name -> syntax tree, for every file of a package."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(tree: ast.AST) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each (module, names) that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), tuple(alias.name for alias in node.names)


def edges(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Module -> modules of the package that it imports. `from package import module` counts as the module."""
    graph: dict[str, set[str]] = {name: set() for name in trees}
    for name, tree in trees.items():
        for module, names in imports(tree):
            submodules = {f"{module}.{item}" for item in names if f"{module}.{item}" in trees}
            graph[name] |= submodules
            if module in trees and len(submodules) < max(len(names), 1):
                graph[name].add(module)
    return graph


def running(tree: ast.AST, *, late: bool) -> ast.Module:
    """The imports of a file that run: not those for type checkers, and those inside functions only if `late`."""

    def walk(node: ast.AST) -> Iterator[ast.stmt]:
        for child in ast.iter_child_nodes(node):
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            typing = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield child
            elif not typing and (late or not function):
                yield from walk(child)

    return ast.Module(list(walk(tree)), [])


def part_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def upward(trees: dict[str, ast.Module]) -> list[str]:
    """Imports that do not point down."""
    wrong = [
        f"{name}: relative import" for name, tree in trees.items() if any(m.startswith(".") for m, _ in imports(tree))
    ]
    for name, targets in edges(trees).items():
        for target in sorted(targets):
            here, there = part_of(name), part_of(target)
            if HEIGHT.get(here) is None or HEIGHT.get(there) is None:
                wrong.append(f"{name} -> {target}: a part without a layer")
            elif here != there and HEIGHT[there] >= HEIGHT[here] and (here, target) not in BESIDE:
                wrong.append(f"{name} -> {target}")
    return wrong


def circle(trees: dict[str, ast.Module]) -> list[str]:
    """Modules that import each other, one circle of them (type checkers alone may go round)."""
    try:
        TopologicalSorter(edges({name: running(tree, late=True) for name, tree in trees.items()})).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def importing(trees: dict[str, ast.Module], library: str) -> list[str]:
    """Modules that import a library, anywhere in the file."""
    return [name for name, tree in trees.items() if any(m.split(".")[0] == library for m, _ in imports(tree))]


def importing_at_once(trees: dict[str, ast.Module], library: str) -> list[str]:
    """Modules that import a library when they are imported themselves."""
    return importing({name: running(tree, late=False) for name, tree in trees.items()}, library)


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return modules(PACKAGE)


def test_imports_point_down(trees: dict[str, ast.Module]) -> None:
    assert upward(trees) == []


def test_no_modules_import_each_other(trees: dict[str, ast.Module]) -> None:
    assert circle(trees) == []


def test_simpy_is_imported_in_the_engine_alone(trees: dict[str, ast.Module]) -> None:
    assert [name for name in importing(trees, "simpy") if part_of(name) != "engine"] == []


@pytest.mark.parametrize("library", ["pandas", "matplotlib", "pyarrow"])
def test_slow_libraries_are_imported_where_they_are_used(trees: dict[str, ast.Module], library: str) -> None:
    assert importing_at_once(trees, library) == []


def test_no_file_is_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path): length for path, length in lengths.items() if length > LONGEST} == {}


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("cost/step.py", "from simulator.engine import clock"),
        ("engine/clock.py", "def f():\n    import simulator.report.tables"),
        ("model/attention.py", "from simulator.hardware.chip import Chip"),
        ("hardware/chip.py", "from simulator.model.attention import A"),
        ("report/tables.py", "from .. import run"),
        ("novel/thing.py", "from simulator.errors import E"),
    ],
)
def test_an_import_that_points_up_is_seen(tmp_path: Path, file: str, text: str) -> None:
    names = (
        "engine/clock",
        "report/tables",
        "hardware/chip",
        "model/attention",
        "cost/step",
        "errors",
        "run",
        file[:-3],
    )
    for name in names:
        path = tmp_path / "simulator" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if path.match(file) else "")
    assert len(upward(modules(tmp_path / "simulator"))) == 1


def test_a_circle_is_seen() -> None:
    ring = {"simulator.cost.a": "import simulator.cost.b", "simulator.cost.b": "from simulator.cost import a"}
    trees = {name: ast.parse(text) for name, text in ring.items()}
    assert set(circle(trees)) == set(ring)


def test_a_circle_for_types_is_none() -> None:
    types = "if TYPE_CHECKING:\n    import simulator.cost.b"
    trees = {"simulator.cost.a": ast.parse(types), "simulator.cost.b": ast.parse("import simulator.cost.a")}
    assert circle(trees) == []


def test_an_import_at_once_is_told_from_a_late_one() -> None:
    texts = {
        "at_once": "try:\n    import pandas.api\nexcept ImportError:\n    pass",
        "late": "def f():\n    import pandas",
        "types": "if TYPE_CHECKING:\n    import pandas",
    }
    trees = {name: ast.parse(text) for name, text in texts.items()}
    assert importing_at_once(trees, "pandas") == ["at_once"]
    assert importing(trees, "pandas") == ["at_once", "late", "types"]
