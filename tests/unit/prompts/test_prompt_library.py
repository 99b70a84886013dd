"""The library finds templates by name and version and names all that is broken at once."""

from pathlib import Path

import pytest

from millrace.prompts.library import PACKAGED, PromptLibrary
from millrace.schemas.errors import ConfigurationError, PromptError


def write(folder: Path, name: str, version: int, *, body: str = "v", file: str = "") -> Path:
    path = folder / (file or f"{name}@{version}.j2")
    path.write_text(
        f"---\nname: {name}\nversion: {version}\ntask: general\ndescription: d\n---\n"
        f"{{% block user %}}{body}{version}{{% endblock %}}",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize(
    ("reference", "text"), [("hello", "v10"), ("hello@2", "v2"), ("hello@10", "v10")]
)
def test_a_reference_finds_its_version_or_the_newest(
    tmp_path: Path, reference: str, text: str
) -> None:
    """Versions are numbers: 10 is newer than 2."""
    for version in (10, 2, 9):
        write(tmp_path, "hello", version)

    rendered = PromptLibrary.load([tmp_path]).render(reference, {})

    assert rendered.messages[0].content == text


@pytest.mark.parametrize(
    ("reference", "hint"), [("hello@3", "there is hello@2"), ("helo", "there is hello, other")]
)
def test_an_unknown_reference_says_what_there_is(tmp_path: Path, reference: str, hint: str) -> None:
    """A wrong version lists versions, a wrong name lists names."""
    write(tmp_path, "hello", 2)
    write(tmp_path, "other", 1)

    with pytest.raises(PromptError, match=hint):
        PromptLibrary.load([tmp_path]).get(reference)


def test_an_empty_library_says_so() -> None:
    """Without templates there is nothing to list."""
    with pytest.raises(PromptError, match="none at all"):
        PromptLibrary([]).get("hello")


def test_a_team_may_add_a_folder_to_the_packaged_one(tmp_path: Path) -> None:
    """A newer version of a packaged template becomes the default one."""
    write(tmp_path, "general", 2)

    library = PromptLibrary.load([PACKAGED, tmp_path])

    assert library.get("general").reference == "general@2"
    assert library.get("general@1").reference == "general@1"


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    """Broken files, wrong names, duplicates and missing folders stand in one error."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    write(first, "hello", 1)
    write(second, "hello", 1)
    write(first, "named", 1, file="otherwise@1.j2")
    (first / "broken@1.j2").write_text("no head")
    (first / "bytes@1.j2").write_bytes(b"\xff\xfe")
    (first / "notes.txt").write_text("not a template")
    (second / "schema@1.j2").write_text(
        "---\nname: schema\nversion: 1\ntask: general\ndescription: d\n"
        "output: {format: json, schema: {type: strange}}\n---\n"
        "{% block user %}x{% endblock %}"
    )

    with pytest.raises(ConfigurationError) as caught:
        PromptLibrary.load([first, second, tmp_path / "third"])

    message = caught.value.message
    assert "'hello@1' stands in" in message
    assert "must be named 'named@1.j2'" in message
    assert "broken@1.j2: the file must begin" in message
    assert "bytes@1.j2: cannot be read as UTF-8" in message
    assert "schema@1.j2: the output schema is wrong" in message
    assert "third: not a folder" in message
    assert "notes.txt" not in message


def test_line_ends_do_not_change_the_hash(tmp_path: Path) -> None:
    """The same template has the same hash on every system."""
    path = write(tmp_path, "hello", 1)
    unix = PromptLibrary.load([tmp_path]).get("hello").ref
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    windows = PromptLibrary.load([tmp_path]).get("hello").ref

    assert unix == windows
