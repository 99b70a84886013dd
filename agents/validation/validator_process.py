"""Runs one team's validator in a process of its own, so that it can be ended.

A function that hangs, eats memory or takes the interpreter down with it cannot be contained
within the process that reads the topics; here it costs its time limit and its process, which is
started anew for the next answer.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from millrace.agents.validation.validators import Answer, ValidatorFailedError, Verdict
from millrace.agents.validation.verdict import Problem

START_SECONDS = 10.0
"""How long the import of a validator's module may take."""

PAUSE_SECONDS = 30.0
"""After a process that could not be started, how long none is started again."""

MAX_PROBLEMS = 20
MAX_TEXT_CHARS = 500
"""Of a problem's message and of its suggestion; the rest is cut off."""

_CONTEXT = multiprocessing.get_context("spawn")
_READY = "ready"


@dataclass(slots=True, kw_only=True)
class ValidatorProcess:
    """A validator, by `module:function`, and the process that runs it. For one thread."""

    target: str
    timeout_seconds: float
    now: Callable[[], float] = time.monotonic
    """Seconds, from whenever."""
    _process: BaseProcess | None = field(default=None, init=False)
    _pipe: "Connection[Any, Any] | None" = field(default=None, init=False)
    _not_before: float = field(default=0.0, init=False)
    _failure: str = field(default="", init=False)

    def __call__(self, answer: Answer) -> Verdict:
        """Have the validator judge the answer, within its time.

        Raises:
            ValidatorFailedError: It raised, took too long, ended its process, or said something
                that is no verdict. Its message names what was raised by its class only.
        """
        failure = self.start()
        if failure is not None or self._pipe is None:
            raise ValidatorFailedError(failure or "is closed")
        try:
            self._pipe.send(answer)
            if not self._pipe.poll(self.timeout_seconds):
                self.close()
                raise ValidatorFailedError(f"took more than {self.timeout_seconds:g} s")
            said = self._pipe.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise ValidatorFailedError("ended its process") from error
        if isinstance(said, str):
            raise ValidatorFailedError(said)
        score, problems = said
        return Verdict(tuple(Problem(*each) for each in problems), score)

    def start(self) -> str | None:
        """Start the process if it does not run; say why that failed, None where it did not."""
        if self._process is not None and self._process.is_alive():
            return None
        if self.now() < self._not_before:
            return self._failure
        self.close()
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(self.target, theirs), daemon=True)
        self._process.start()
        theirs.close()
        failure = self._wait_until_ready(self._pipe)
        if failure is not None:
            self.close()
            self._failure, self._not_before = failure, self.now() + PAUSE_SECONDS
        return failure

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def _wait_until_ready(self, pipe: "Connection[Any, Any]") -> str | None:
        try:
            if not pipe.poll(START_SECONDS):
                return f"took more than {START_SECONDS:g} s to be imported"
            said = pipe.recv()
        except (EOFError, OSError):
            return "ended its process when it was imported"
        return None if said == _READY else str(said)


def _serve(target: str, pipe: "Connection[Any, Any]") -> None:
    """What the process does: judge answers until nobody sends any."""
    # The interrupt of a terminal reaches all of its processes; the one that reads topics decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    module, _, name = target.partition(":")
    try:
        check: Any = import_module(module)
        for part in name.split("."):
            check = getattr(check, part)
    except Exception as error:  # noqa: BLE001 (told to the parent; a module may raise anything)
        pipe.send(f"cannot be imported: {type(error).__name__}")
        return
    pipe.send(_READY)
    while True:
        try:
            answer = pipe.recv()
        except EOFError:
            return
        try:
            said = _plain(check(answer))
        except Exception as error:  # noqa: BLE001 (told to the parent; a validator may raise anything)
            said = f"raised {type(error).__name__}"
        pipe.send(said)


def _plain(said: Any) -> tuple[float, list[tuple[str, str, str]]] | str:
    """What the validator said, checked and in plain values, so that the parent loads no code."""
    if said is None:
        return 1.0, []
    if (
        not isinstance(said, Verdict)
        or not isinstance(said.score, int | float)
        or not 0 <= said.score <= 1
        or not isinstance(said.problems, tuple | list)
        or not all(isinstance(each, Problem) for each in said.problems)
    ):
        return "must return None or a Verdict with a score from 0 to 1"
    problems = [
        (
            str(each.check)[:MAX_TEXT_CHARS],
            str(each.message)[:MAX_TEXT_CHARS],
            str(each.suggestion)[:MAX_TEXT_CHARS],
        )
        for each in said.problems[:MAX_PROBLEMS]
    ]
    return float(said.score), problems
