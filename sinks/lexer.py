"""Take SQL text apart as ClickHouse's lexer does, as far as strings and comments matter.

Written from ClickHouse's description of its syntax (SQL Reference, Syntax): `--`, `# `, `#!`
and `/* */` comments; strings with backslashes or doubled quotes; quoted identifiers; heredocs.
Where two lexers might disagree, the text is refused: a check that reads a statement
differently from the engine that runs it would be none.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from millrace.schemas.errors import SinkError

TokenKind = Literal["word", "quoted", "string", "end", "comment", "space", "other"]

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>--[^\n]*|\#(?:[ !][^\n]*|(?=\n|\Z))|/\*(?:(?!/\*).)*?\*/)
    | (?P<string>'(?:[^'\\]|\\.|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<quoted>"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`)
    | (?P<word>[A-Za-z_][\w$]*)
    | (?P<end>;)
    | (?P<other>/(?!\*)|[0-9.,()\[\]{}<>=!+*%?:|@^~&-])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of SQL text."""

    kind: TokenKind
    text: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, as written between two `;`, and its tokens without space and comments."""

    text: str
    tokens: tuple[Token, ...]


def statements(sql: str) -> tuple[Statement, ...]:
    """Split SQL into its statements; those that hold nothing but comments are left out.

    Raises:
        SinkError: A string or comment is not closed, or a character has no place outside them.
    """
    found: list[Statement] = []
    pieces: list[Token] = []
    for token in (*_tokens(sql), Token("end", ";")):
        if token.kind != "end":
            pieces.append(token)
            continue
        meaning = tuple(piece for piece in pieces if piece.kind not in ("space", "comment"))
        if meaning:
            found.append(Statement("".join(piece.text for piece in pieces).strip(), meaning))
        pieces = []
    return tuple(found)


def _tokens(sql: str) -> Iterator[Token]:
    at = 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None:
            line = sql.count("\n", 0, at) + 1
            raise SinkError(
                f"cannot read the SQL from {sql[at]!r} in line {line} on: close each string and "
                "comment, and use other than ASCII characters only inside them",
                code="invalid_request",
            )
        yield Token(_KINDS[match.lastgroup or ""], match.group())
        at = match.end()


_KINDS: dict[str, TokenKind] = {
    "space": "space",
    "comment": "comment",
    "string": "string",
    "tag": "string",
    "quoted": "quoted",
    "word": "word",
    "end": "end",
    "other": "other",
}
