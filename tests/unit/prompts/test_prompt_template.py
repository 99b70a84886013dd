"""Templates take exactly the variables they declare, and fail with names, never values."""

import hashlib

import pytest

from millrace.prompts.sandbox import PromptEnvironment
from millrace.prompts.template import PromptTemplate, compile_template
from millrace.schemas.errors import ConfigurationError, PromptError
from millrace.schemas.message import Message
from millrace.schemas.request import OutputSpec

HEAD = """---
name: greet
version: 3
task: general
description: Greets.
variables:
  who: {type: string}
  times: {type: integer, default: 1}
  weight: {type: number, default: null}
  loud: {type: boolean, default: false}
  gifts: {type: array, default: []}
  extra: {type: object, default: {}}
output: {format: json, schema: {type: object}}
---
"""
BODY = """{% block system %}
Be kind.
{% endblock %}
{% block user %}
Hello {{ who }} {{ times }} {{ weight }} {{ loud }} {{ gifts | join("+") }} {{ extra.a.b }}
{% endblock %}
"""
ALL = {
    "who": "Ann",
    "times": 2,
    "weight": 1.5,
    "loud": True,
    "gifts": ["x", "y"],
    "extra": {"a": {"b": "deep"}},
}


def compiled(text: str, *, max_rendered_chars: int = 10_000) -> PromptTemplate:
    return compile_template(
        text, environment=PromptEnvironment(), max_rendered_chars=max_rendered_chars
    )


def with_body(body: str, variables: str = "  who: {type: string}") -> str:
    head = "---\nname: t\nversion: 1\ntask: general\ndescription: d\nvariables:\n"
    return f"{head}{variables}\n---\n{body}"


def user(expression: str, variables: str = "  who: {type: string}") -> str:
    return with_body(f"{{% block user %}}{expression}{{% endblock %}}", variables)


def test_rendering_makes_a_system_and_a_user_message() -> None:
    """Each block becomes a message, without the line breaks around it."""
    rendered = compiled(HEAD + BODY).render(ALL)

    assert rendered.messages == (
        Message(role="system", content="Be kind."),
        Message(role="user", content="Hello Ann 2 1.5 True x+y deep"),
    )


def test_rendering_says_which_template_it_was() -> None:
    """Name, version, hash of the file's text, task and output travel with the messages."""
    text = HEAD + BODY

    rendered = compiled(text).render(ALL)

    assert rendered.ref.name == "greet"
    assert rendered.ref.version == 3
    assert rendered.ref.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert rendered.task == "general"
    assert rendered.output == OutputSpec(format="json", json_schema={"type": "object"})


def test_without_a_system_block_there_is_only_the_user_message() -> None:
    """The system part is optional."""
    rendered = compiled(user("Hi {{ who }}")).render({"who": "you"})

    assert rendered.messages == (Message(role="user", content="Hi you"),)


@pytest.mark.parametrize(
    ("changes", "complaints"),
    [
        ({"who": None}, ["'who' is missing"]),
        ({"who": 1}, ["'who' must be a string, not an integer"]),
        ({"times": True}, ["'times' must be an integer, not a boolean"]),
        ({"times": 1.5}, ["'times' must be an integer, not a number"]),
        ({"times": "1"}, ["'times' must be an integer, not a string"]),
        ({"weight": False}, ["'weight' must be a number, not a boolean"]),
        ({"loud": 1}, ["'loud' must be a boolean, not an integer"]),
        ({"gifts": "x"}, ["'gifts' must be an array, not a string"]),
        ({"gifts": {}}, ["'gifts' must be an array, not an object"]),
        ({"extra": []}, ["'extra' must be an object, not an array"]),
        ({"wo": 1}, ["'wo' is unknown"]),
        (
            {"who": None, "times": "secret", "zzz": "secret"},
            ["'who' is missing", "'times' must be", "'zzz' is unknown"],
        ),
    ],
)
def test_variables_that_do_not_fit_are_all_named(
    changes: dict[str, object], complaints: list[str]
) -> None:
    """One error names each variable at once, and quotes no value."""
    with pytest.raises(PromptError) as caught:
        compiled(HEAD + BODY).render({**ALL, **changes})

    assert all(complaint in caught.value.message for complaint in complaints)
    assert "secret" not in caught.value.message
    assert "it takes who, times, weight, loud, gifts, extra" in caught.value.message


def test_many_unknown_variables_do_not_make_a_long_message() -> None:
    """Names come from outside, so that their number and length are bounded."""
    unknown = {f"{number:03}" + "x" * 1_000: 1 for number in range(200)}

    with pytest.raises(PromptError) as caught:
        compiled(HEAD + BODY).render({**ALL, **unknown})

    assert "190 more are unknown" in caught.value.message
    assert len(caught.value.message) < 2_000


def test_null_counts_as_not_given() -> None:
    """An optional variable given as null takes its default."""
    template = compiled(user("{{ n }}", "  n: {type: integer, default: 7}"))

    assert template.render({"n": None}).messages[0].content == "7"
    assert template.render({}).messages[0].content == "7"


def test_an_integer_is_a_number() -> None:
    """Where a number is wanted, a whole one will do."""
    template = compiled(user("{{ n }}", "  n: {type: number}"))

    assert template.render({"n": 7}).messages[0].content == "7"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("{{ who.secret_part }}", {"other": "hidden"}),
        ("{{ who['a'] }}", {"other": "hidden"}),
        ("{{ who.other + 1 }}", {"other": "hidden"}),
        ("{{ who.other | float + who }}", {"other": "hidden"}),
        ("{{ 1 / who.zero }}", {"zero": 0}),
        ("{{ who.other | fenced }}", {"other": 1}),
    ],
)
def test_a_failing_expression_names_template_and_line_only(expression: str, value: object) -> None:
    """What fails while rendering says where, and quotes nothing."""
    text = with_body(
        f"{{% block user %}}\nfirst\n{expression}\n{{% endblock %}}", "  who: {type: object}"
    )

    with pytest.raises(PromptError) as caught:
        compiled(text).render({"who": value})

    assert "'t@1'" in caught.value.message
    assert "at line 11" in caught.value.message
    assert "hidden" not in caught.value.message
    assert caught.value.__cause__ is None


def test_output_is_bounded() -> None:
    """A template that would make a huge message out of its variables stops early."""
    template = compiled(
        user(
            "{% for a in who %}{% for b in who %}{{ a }}{% endfor %}{% endfor %}",
            "  who: {type: array}",
        ),
        max_rendered_chars=5_000,
    )

    with pytest.raises(PromptError, match="more than 5000 characters"):
        template.render({"who": ["x" * 10] * 10_000})


def test_an_empty_user_message_is_refused() -> None:
    """No provider takes an empty question."""
    with pytest.raises(PromptError, match="empty message"):
        compiled(user("{{ who }}")).render({"who": " \n"})


def test_variables_are_never_compiled() -> None:
    """Template syntax in a value stays text."""
    rendered = compiled(user("{{ who }}")).render({"who": "{{ 7 * 7 }}{% raw %}"})

    assert rendered.messages[0].content == "{{ 7 * 7 }}{% raw %}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{% block user %}x{% endblock %}", "must begin with YAML front matter"),
        ("---\nname: t\n", "must begin with YAML front matter"),
        ("---\nname: [\n---\n", "not valid YAML at line"),
        ("---\nname: T\nversion: 0\ntask: x\n---\n", "name: String should match"),
        ("---\nname: T\nversion: 0\ntask: x\n---\n", "version: Input should be greater"),
        ("---\nname: T\nversion: 0\ntask: x\n---\n", "task: Input should be"),
        ("---\nname: T\nversion: 0\ntask: x\n---\n", "description: Field required"),
        (user("{{ who }}", "  who: {type: text}"), "variables.who.type: Input should be"),
        (user("{{ who }}", "  who: {type: string, default: 1}"), "default must be a string"),
        (user("{{ who }}", "  who: {type: string, need: 1}"), "variables.who.need"),
        (user("{{ who }} {{ where }}"), "'where' is used but not declared"),
        (user("hello"), "'who' is declared but not used"),
        (with_body("{% block system %}{{ who }}{% endblock %}"), "no block 'user'"),
        (user("{{ who }}") + "{% block other %}{% endblock %}", "'other' is unknown"),
        (user("{{ who }}") + "tail", "only blocks may stand outside"),
        (user("{{ who }}") + "{% set a = 1 %}", "only blocks may stand outside"),
        (user("{{ who }"), "line 9"),
        (user("{{ who | nosuch }}"), "nosuch"),
        (user("{{ who | random }}"), "random"),
        (user("{{ who }}{% include 'x' %}"), "include is not available"),
        (user("{{ who }}{% import 'x' as y %}"), "import is not available"),
        (user("{{ who }}{% macro m() %}{% endmacro %}"), "macro is not available"),
    ],
)
def test_an_unsound_template_is_refused(text: str, complaint: str) -> None:
    """What is wrong with a file is found when it is loaded, not when it is used."""
    with pytest.raises(ConfigurationError) as caught:
        compiled(text)

    assert complaint in caught.value.message
