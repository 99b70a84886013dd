"""Finds the validators that teams have installed: entry points of `millrace.validators`.

A package declares one in its `pyproject.toml` by a line such as
`house_style = "acme_checks.style:check"` under `[project.entry-points."millrace.validators"]`.
"""

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from importlib.metadata import EntryPoint, entry_points

from millrace.agents.validation.validator_process import ValidatorProcess
from millrace.agents.validation.validators import BUILT_IN, Validator
from millrace.schemas.errors import ConfigurationError

GROUP = "millrace.validators"


def validator_names() -> frozenset[str]:
    """Every validator that can be named: those that come along and those installed."""
    return frozenset(BUILT_IN) | _installed().keys()


def load_validators(
    named: Collection[str], *, timeout_seconds: float, stack: ExitStack
) -> Mapping[str, Validator]:
    """Make every validator ready; a team's own runs in a process of its own.

    All are started at once, so that no record waits for an import later. One that cannot be
    started is an error where the operator has `named` it; otherwise it fails what asks for it.
    The stack ends the processes.

    Raises:
        ConfigurationError: One that is named does not exist or cannot be loaded, or an installed
            one has the name of one that comes along; names all of them.
    """
    installed = _installed()
    problems = [
        f"entry point {each.value!r} of {GROUP} is named {name!r}, as one that comes along"
        for name, each in installed.items()
        if name in BUILT_IN
    ]
    known = BUILT_IN.keys() | installed.keys()
    problems += [
        f"validator {name!r} does not exist: there are {', '.join(sorted(known))}; one of your "
        f"own is an entry point of {GROUP}"
        for name in sorted(named)
        if name not in known
    ]
    validators: dict[str, Validator] = dict(BUILT_IN)
    for name, entry in installed.items():
        if name in BUILT_IN:
            continue
        process = ValidatorProcess(target=entry.value, timeout_seconds=timeout_seconds)
        stack.callback(process.close)
        validators[name] = process
        failure = process.start()
        if failure is not None and name in named:
            problems.append(f"validator {name!r} ({entry.value}) {failure}")
    if problems:
        raise ConfigurationError("; ".join(problems))
    return validators


def _installed() -> dict[str, EntryPoint]:
    return {each.name: each for each in entry_points(group=GROUP)}
