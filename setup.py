"""What pyproject.toml cannot say: hardware_profiles/ and scenarios/ of the checkout go into the package's _data."""

from pathlib import Path

from setuptools import find_packages, setup

FOLDERS = ("hardware_profiles", "scenarios")
DATA = ("*.yaml", "*.json", "*.csv", "*.jsonl", "*.md")


def folders_inside(top: str) -> list[Path]:
    """The folder and those below it, as paths relative to the checkout."""
    return [Path(top), *(path for path in sorted(Path(top).rglob("*")) if path.is_dir())]


packed = {"simulator._data." + ".".join(folder.parts): str(folder) for top in FOLDERS for folder in folders_inside(top)}

setup(
    packages=[*find_packages(include=["simulator", "simulator.*"]), *packed],
    package_dir=packed,
    package_data={
        **{folder: list(DATA) for folder in packed},
        "simulator": [
            f"**/*{ending}" for ending in (".yaml", ".json", ".csv", ".gz", ".mplstyle", ".html", ".typed", "LICENSE")
        ],
    },
    include_package_data=False,
)
