"""Taking SQL apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.schemas.errors import SinkError
from millrace.sinks.lexer import statements
from millrace.sinks.query import readable

PIECES = st.sampled_from(
    [
        "SELECT",
        "1",
        "a.b",
        "'it''s; -- no comment'",
        "'\\'; '",
        "`a;b`",
        '"x;""y"',
        "/* ; ' */",
        "-- ; '\n",
        "# ; '\n",
        "$$ ; ' $$",
        "$tag$ $$; $tag$",
        "(1, [2])",
        "{name:String}",
        "a->b",
        "x/2-1",
        "\n",
    ]
)


@given(st.lists(st.lists(PIECES, min_size=1, max_size=5), max_size=4))
def test_statements_are_divided_at_semicolons_and_nowhere_else(parts: list[list[str]]) -> None:
    """Semicolons in strings, names and comments divide nothing."""
    texts = [" ".join(["SELECT", *pieces]) for pieces in parts]

    found = statements("\n;\n".join(texts))

    assert [statement.text for statement in found] == [text.strip() for text in texts]


def test_comments_alone_are_no_statement() -> None:
    """Nothing is sent for a remark between two semicolons."""
    found = statements("-- first\n;;/* second */; SELECT 1 -- third\n; # fourth")

    assert [statement.text for statement in found] == ["SELECT 1 -- third"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'open",
        "SELECT `open",
        "/* open",
        "/* a /* b */ c */",
        "SELECT \N{LEFT SINGLE QUOTATION MARK}x\N{RIGHT SINGLE QUOTATION MARK}",
        "SELECT $x$",
    ],
)
def test_what_two_lexers_could_read_differently_is_refused(sql: str) -> None:
    """Unclosed quotes, nested comments and quotation marks beyond ASCII are errors."""
    with pytest.raises(SinkError, match="cannot read the SQL") as caught:
        statements(sql)

    assert caught.value.code == "invalid_request"


def test_characters_beyond_ascii_may_stand_in_strings_and_comments() -> None:
    """People write in their own language."""
    [statement] = statements("SELECT 'où' -- là\n")

    assert statement.tokens[1].text == "'où'"


@pytest.mark.parametrize("sql", ["SELECT 'file', 'outfile' FROM file_names", "SELECT 1;"])
@pytest.mark.parametrize("embedded", [True, False])
def test_words_in_strings_and_parts_of_names_are_allowed(sql: str, *, embedded: bool) -> None:
    """Only a word of its own could name the function."""
    assert readable(sql, embedded=embedded).text == sql.rstrip(";")


def test_a_server_decides_itself_about_its_files() -> None:
    """On a server `file` reads only what the server offers."""
    assert readable("SELECT file('x')", embedded=False)
    with pytest.raises(SinkError, match="this machine's files"):
        readable("SELECT file('x')", embedded=True)


@given(st.text(max_size=60))
def test_any_text_is_divided_or_refused(sql: str) -> None:
    """No text brings anything but statements or the one error; and no character is lost."""
    try:
        found = statements(sql)
    except SinkError:
        return

    assert sum(len(statement.text) for statement in found) <= len(sql)
