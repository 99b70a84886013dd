"""API keys come from the environment and stay out of sight."""

import pytest

from millrace.providers.keys import ApiKeys
from millrace.schemas.errors import ConfigurationError

_ENVIRON = {"KEY_A": "sk-aaa111", "KEY_B": " sk-bbb222\n", "BLANK": "  "}


def test_keys_are_handed_out_in_turn() -> None:
    """Round-robin over the variables that are set, blanks around a value dropped."""
    keys = ApiKeys.from_environment(("KEY_A", "BLANK", "KEY_B", "UNSET"), _ENVIRON)

    drawn = [keys.next() for _ in range(5)]

    assert [key.alias for key in drawn if key] == ["KEY_A", "KEY_B", "KEY_A", "KEY_B", "KEY_A"]
    assert [key.secret for key in drawn[:2] if key] == ["sk-aaa111", "sk-bbb222"]
    assert keys.aliases == ("KEY_A", "KEY_B")
    assert len(keys) == 2


def test_an_entry_that_names_no_variable_needs_no_key() -> None:
    """A local server, for one."""
    assert ApiKeys.from_environment((), _ENVIRON).next() is None


def test_a_key_is_never_shown() -> None:
    """Neither by a key nor by those that hold it."""
    keys = ApiKeys.from_environment(("KEY_A",), _ENVIRON)
    key = keys.next()

    for shown in (repr(key), str(key), f"{key}", repr(keys), str(keys)):
        assert "aaa111" not in shown
        assert "KEY_A" in shown


def test_missing_keys_are_a_setting_to_fix() -> None:
    """The message names the variables."""
    with pytest.raises(ConfigurationError, match="set UNSET or BLANK"):
        ApiKeys.from_environment(("UNSET", "BLANK"), _ENVIRON)


@pytest.mark.parametrize("value", ["sk-a\r\nx: y", "sk a", "sk-é", "sk-\x00"])
def test_a_value_that_cannot_be_a_header_is_refused_unseen(value: str) -> None:
    """It would break the request, or add a header to it."""
    with pytest.raises(ConfigurationError, match="BROKEN") as caught:
        ApiKeys.from_environment(("BROKEN",), {"BROKEN": value})

    assert value not in caught.value.message
