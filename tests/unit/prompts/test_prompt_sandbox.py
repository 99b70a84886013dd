"""The sandbox around templates: no way out, nothing huge, nothing random."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import SecurityError, TemplateError

from millrace.prompts.sandbox import PromptEnvironment, fenced

ENVIRONMENT = PromptEnvironment()


@pytest.mark.parametrize(
    "expression",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ [].__class__.__base__ }}",
        "{{ x.append(1) }}",
        "{{ y.update({'a': 1}) }}",
        "{{ y.clear() }}",
        "{{ 'a' * 100000000 }}",
        "{{ 100000000 * 'a' }}",
        "{{ x * 100000000 }}",
        "{{ 9 ** 999999999 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ 'a'.ljust(999999999) }}",
        "{{ 'a'.replace('a', 'aa') }}",
        "{{ 'a'.encode() }}",
        "{% for i in range(999999999) %}{% endfor %}",
        "{{ lipsum() }}",
        "{{ cycler('a') }}",
        "{{ namespace(a=1) }}",
        "{{ self.__init__ }}",
    ],
)
def test_expressions_that_reach_out_or_blow_up_are_refused(expression: str) -> None:
    """Neither Python's internals nor huge values are within reach."""
    with pytest.raises((TemplateError, OverflowError)):
        ENVIRONMENT.from_string(expression).render(x=[1], y={})


def test_plain_multiplication_works() -> None:
    """Numbers and short texts may be multiplied."""
    assert ENVIRONMENT.from_string("{{ 6 * 7 }}{{ '-' * 3 }}").render() == "42---"


def test_text_methods_that_do_not_grow_the_text_work() -> None:
    """Common methods of texts are there."""
    template = ENVIRONMENT.from_string("{{ x.strip().upper() }} {{ x.split() | join(',') }}")

    assert template.render(x=" a b ") == "A B a,b"


def test_json_is_written_as_json_and_not_for_html() -> None:
    """Angle brackets and quotes reach the model as they are."""
    template = ENVIRONMENT.from_string("{{ x | tojson }} {{ x | tojson(indent=2) }}")

    assert template.render(x={"a": "<é'>"}) == '{"a":"<é\'>"} {\n  "a": "<é\'>"\n}'


def test_security_errors_are_template_errors() -> None:
    """One kind of exception covers all that a template may do wrong."""
    assert issubclass(SecurityError, TemplateError)


@settings(max_examples=60)
@given(st.text(alphabet="`~a \n", max_size=60))
def test_nothing_within_a_fence_can_close_it(text: str) -> None:
    """No line of the content is a fence as long as the one around it."""
    opening, *content, closing = fenced(text).split("\n")

    assert opening == closing
    assert set(opening) == {"`"}
    assert all(opening not in line for line in content)
    assert "\n".join(content) == text.strip("\n")
