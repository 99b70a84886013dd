"""The versions of the clients of which more is used than their public names."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[3]
MINOR = {"aiohttp", "aiokafka", "faust-streaming"}
"""What a minor release changes inside is not foreseen: aiokafka 0.13 took settings away."""


def requirement(name: str) -> Requirement:
    """What pyproject.toml asks for."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    return next(each for each in map(Requirement, asked) if each.name == name)


@pytest.mark.parametrize("name", sorted(MINOR))
def test_no_other_minor_release_is_taken(name: str) -> None:
    """The next one is tried before it is let in; the tests of this one say what is used of it."""
    tried = Version(version(name))

    assert requirement(name).specifier.contains(tried)
    assert not requirement(name).specifier.contains(f"{tried.major}.{tried.minor + 1}.0")
    assert not requirement(name).specifier.contains(f"{tried.major}.{tried.minor - 1}.99")
