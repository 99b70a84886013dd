"""Models made without a look at their values are the models that their constructors make."""

import pytest
from pipeline_examples import EXAMPLES, OUTPUT

from millrace.schemas.call import Job
from millrace.schemas.record import Frozen, Record
from millrace.schemas.unchecked import changed, unchecked
from millrace.schemas.usage import Timing


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_model_made_unchecked_is_written_as_one_that_was_checked(name: str) -> None:
    """With all its fields given, or only those that say something; byte for byte."""
    checked: Record = EXAMPLES[name]
    model: type[Record] = type(checked)
    everything = dict(checked.__dict__)
    required = {
        field: value
        for field, value in everything.items()
        if model.model_fields[field].is_required() or value != model.model_fields[field].default
    }

    for values in (everything, dict(reversed(everything.items())), required):
        made = unchecked(model)(**values)

        assert made == checked
        assert made.encode() == checked.encode()
        assert made.model_copy(update=required) == checked


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_model_that_was_changed_is_a_copy_with_other_values(name: str) -> None:
    """As its own `model_copy` makes it; the model itself stays as it was."""
    before = EXAMPLES[name]
    field = next(iter(type(before).model_fields))
    written = before.encode()
    after = changed(before, **{field: getattr(before, field)})
    other = changed(before, **{field: "another"})

    assert (after, after.encode()) == (before, written)
    assert other == before.model_copy(update={field: "another"})
    assert before.encode() == written


def test_aliases_and_nested_models_are_kept() -> None:
    """`schema` of an output's format is a field of another name."""
    made = unchecked(type(OUTPUT))(**OUTPUT.__dict__)

    assert made.model_dump_json() == OUTPUT.model_dump_json()


def test_what_is_made_by_default_is_made_anew() -> None:
    """Two models must not share a dict."""
    make = unchecked(Job)
    first, second = make(request_id="a"), make(request_id="b")  # type: ignore[call-arg]

    assert first.tags == {}
    assert first.tags is not second.tags


def test_it_is_as_frozen_as_any() -> None:
    """And can be copied, compared and hashed."""
    made = unchecked(Timing)(total_ms=1.5)

    assert {made} == {Timing(total_ms=1.5)}
    with pytest.raises(ValueError, match="frozen"):
        made.total_ms = 2.0  # type: ignore[misc]


def test_only_models_are_made_so() -> None:
    """Not functions that happen to give one."""

    def function() -> Frozen:
        return Timing()

    with pytest.raises(TypeError, match="is not a model"):
        unchecked(function)
