"""Finds hardware profiles by name: the user's folders first, then those that come with ramwise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from simulator.errors import Problem, ProfileError, Where, unknown
from simulator.hardware.profile import Profile, check_profile
from simulator.yaml_source import read_yaml, validate

_SUFFIXES = (".yaml", ".yml")
_NAME = re.compile(r'^[{"\']*name["\']?\s*:', re.MULTILINE)


def packaged_folder(name: str) -> Path:
    """The folder `name` ('hardware_profiles', 'scenarios') that comes with ramwise, installed or in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_data" / name
    return installed if installed.is_dir() else package.parent / name


class Catalogue:
    """The hardware profiles in some folders and in ramwise itself. The first folder that has a name wins."""

    def __init__(self, folders: Sequence[Path | str] = ()) -> None:
        """Raise ProfileError when a folder does not exist."""
        self._folders = (*(Path(folder) for folder in folders), packaged_folder("hardware_profiles"))
        missing = [folder for folder in self._folders if not folder.is_dir()]
        if missing:
            raise ProfileError(Problem(f"no such folder of profiles: {folder}") for folder in missing)
        self._loaded: dict[Path, Profile] = {}
        self._paths = self._listed()

    def paths(self) -> dict[str, Path]:
        """Name -> file of every profile, in alphabetical order, as the folders were when the catalogue was made."""
        return self._paths

    def _listed(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in self._folders:
            for path in sorted(folder.iterdir()):
                if path.suffix in _SUFFIXES and not path.stem.endswith(".stack") and self._is_profile(path):
                    found.setdefault(path.stem, path)
        return dict(sorted(found.items()))

    def _is_profile(self, path: Path) -> bool:
        """Whether a YAML file is a profile: a user's folder holds scenarios and studies too, which have no `name`."""
        try:
            return path.parent == self._folders[-1] or bool(_NAME.search(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError):
            return False

    def names(self) -> list[str]:
        """Every name that `load` knows, in alphabetical order."""
        return list(self.paths())

    def load(self, name_or_path: str | Path, where: Where | None = None) -> Profile:
        """The profile of that name, or in that file (NAME.yaml, relative to here or to one of the folders).

        `where` is the place that names it, for the message. Raise ProfileError with everything that is wrong:
        an unknown name, a number without its unit, a contradiction.
        """
        path = self._find(name_or_path, where)
        if path not in self._loaded:
            self._loaded[path] = self._read(path)
        return self._loaded[path]

    def _find(self, name_or_path: str | Path, where: Where | None) -> Path:
        text = str(name_or_path)
        if not text.endswith(_SUFFIXES):
            known = self.paths()
            if text in known:
                return known[text]
            raise ProfileError(unknown("hardware profile", text, known, where))
        for candidate in (Path(text), *(folder / text for folder in self._folders)):
            if candidate.is_file():
                return candidate
        raise ProfileError(
            Problem(f"no such profile file: {text}", where, "give a file that exists, or a profile's name")
        )

    def _read(self, path: Path) -> Profile:
        # `extends: h100-sxm-8.yaml` in a user's file finds the profile of that name when no such file lies beside it.
        source = read_yaml(path, error=ProfileError, find=lambda name: self.paths().get(Path(name).stem))
        profile: Profile = validate(Profile, source, error=ProfileError)
        problems = check_profile(profile, source.where)
        if profile.name != path.stem:
            what = f"the profile is called '{profile.name}', its file '{path.name}'"
            problems.append(Problem(what, source.where(("name",)), f"name: {path.stem}"))
        if problems:
            raise ProfileError(problems)
        return profile
