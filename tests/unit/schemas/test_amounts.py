"""Money, token counts and bytes as records carry them."""

from decimal import Decimal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from millrace.schemas.dead_letter import Blob
from millrace.schemas.usage import Money, Usage


class Priced(BaseModel):
    """Something that costs money."""

    cost: Money


AMOUNTS = st.decimals(min_value=0, max_value=10**9, allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 10**12)
USAGES = st.builds(
    Usage,
    input_tokens=COUNTS,
    cached_tokens=COUNTS,
    cache_write_tokens=COUNTS,
    cache_write_1h_tokens=COUNTS,
    output_tokens=COUNTS,
    reasoning_tokens=COUNTS,
    source=st.sampled_from(["reported", "estimated"]),
)


@given(amount=AMOUNTS)
@settings(max_examples=200, deadline=None)
def test_money_survives_json_exactly_and_plainly(amount: Decimal) -> None:
    """As a string of digits, never as `1E-7`."""
    written = Priced(cost=amount).model_dump_json()
    text = orjson.loads(written)["cost"]

    assert "E" not in text.upper()
    assert Priced.model_validate_json(written).cost == amount


@given(cents=st.integers(0, 10**9))
@settings(max_examples=100, deadline=None)
def test_a_json_number_means_what_its_digits_say(cents: int) -> None:
    """0.1 is a tenth, not its binary neighbour."""
    digits = f"{cents // 100}.{cents % 100:02}"

    assert Priced.model_validate_json(f'{{"cost": {digits}}}').cost == Decimal(digits)


@pytest.mark.parametrize("cost", ['"-0.01"', "-1", '"NaN"', '"Infinity"', '"much"', "null", "true"])
def test_what_is_no_amount_is_refused(cost: str) -> None:
    """Among it what Python would take for one."""
    with pytest.raises(ValidationError):
        Priced.model_validate_json(f'{{"cost": {cost}}}')


@given(usages=st.lists(USAGES, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_usages_add_up_field_by_field(usages: list[Usage]) -> None:
    """In any order; one estimate makes the sum an estimate."""
    total = sum(usages[1:], usages[0])

    assert total == sum(usages[-2::-1], usages[-1])
    for name in Usage.model_fields.keys() - {"source"}:
        assert getattr(total, name) == sum(getattr(each, name) for each in usages)
    estimated = any(each.source == "estimated" for each in usages)
    assert total.source == ("estimated" if estimated else "reported")


@given(raw=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_bytes_survive_json_exactly(raw: bytes) -> None:
    """UTF-8 or not."""
    written = Blob.of(raw).model_dump_json()

    assert Blob.model_validate_json(written).bytes() == raw


@given(text=st.text(max_size=100))
@settings(max_examples=100, deadline=None)
def test_text_stays_readable(text: str) -> None:
    """For the operator's eyes."""
    assert Blob.of(text.encode()) == Blob(encoding="utf-8", content=text)
