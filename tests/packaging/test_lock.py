"""The lock file holds what pyproject.toml asks for, pinned, and nothing of the machine that made it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = [("linux", "posix"), ("darwin", "posix"), ("win32", "nt")]


def locked() -> list[Requirement]:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    lines = [line for line in text.replace("\\\n", "").splitlines() if line.strip() and not line.startswith("#")]
    return [Requirement(line.split(" --hash=")[0].strip()) for line in lines]


def wanted() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    groups.append(project["build-system"]["requires"])
    return [Requirement(text) for group in groups for text in group]


@pytest.mark.parametrize(("platform", "name"), SYSTEMS)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_lock_satisfies_the_project(platform: str, name: str, python: str) -> None:
    environment = {
        **default_environment(),
        "sys_platform": platform,
        "os_name": name,
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    pins = {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in locked()
        if pin.marker is None or pin.marker.evaluate(environment)
    }
    missing = [
        str(requirement)
        for requirement in wanted()
        if requirement.marker is None or requirement.marker.evaluate(environment)
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"))
    ]
    assert missing == []


def test_every_package_is_pinned_to_one_version_and_hashed() -> None:
    for pin in locked():
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", "")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            assert "--hash=sha256:" in line, line


def test_lock_names_no_place() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert re.findall(r"(?:https?|file|git\+\w+)://\S+|--(?:extra-)?index-url|--find-links|\s/\w+/\S+| @ ", text) == []
