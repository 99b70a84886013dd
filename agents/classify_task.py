"""Guesses what kind of work a request is, where it does not say, by rules that run locally."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from millrace.agents.task_signals import CODE, SHAPES, WITH_CODE, WORDS, Shape, may_be_code
from millrace.schemas.message import Message
from millrace.schemas.vocabulary import TaskSource, TaskType

_READ_AT_START = 1_200
_READ_AT_END = 400
_MAX_PHRASE = 3
_WORD = re.compile(r"[a-z][a-z0-9'+/;-]*[a-z0-9+]|[a-z]")
_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_DIGITS = b"0123456789"
_OPENING_WORDS = 12
_OPENING = 1.5
_ENOUGH = 2.0
_DOUBT = 1.5

SignalKind = Literal["words", "phrases", "form", "code"]


class TaskGuess(NamedTuple):
    """What kind of work a request is taken for."""

    task: TaskType
    source: TaskSource
    """`rules`, or `default` where they found too little."""
    confidence: float
    """From 0 to 1."""
    signals: tuple[SignalKind, ...] = ()
    """What spoke for it, strongest first. Kinds alone: which words a request holds stays in it."""

    def __str__(self) -> str:
        found = f" ({' and '.join(self.signals)})" if self.signals else ""
        return f"task {self.task} by {self.source}, confidence {self.confidence:g}{found}"


_UNKNOWN = TaskGuess(task="general", source="default", confidence=0.0)


class _Signal(NamedTuple):
    kind: SignalKind
    text: str = ""


_FORM = _Signal("form")
_CODE = _Signal("code")


@dataclass(slots=True)
class _Tally:
    scores: dict[TaskType, float] = field(default_factory=lambda: defaultdict(float))
    found: dict[TaskType, dict[_Signal, float]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, task: TaskType, signal: _Signal, weight: float) -> None:
        known = self.found[task].get(signal, 0.0)
        if weight > known:
            self.scores[task] += weight - known
            self.found[task][signal] = weight


_Phrases = Mapping[str, Sequence[tuple[TaskType, _Signal, float]]]


def _compiled() -> tuple[_Phrases, _Phrases]:
    whole: dict[str, list[tuple[TaskType, _Signal, float]]] = defaultdict(list)
    stems: dict[str, list[tuple[TaskType, _Signal, float]]] = defaultdict(list)
    for task, words in WORDS.items():
        for phrase, weight in words.items():
            *before, last = phrase.split(" ")
            kind: SignalKind = "phrases" if before else "words"
            if not last.endswith("*"):
                whole[phrase].append((task, _Signal(kind, phrase), weight))
                continue
            # Stems of several words are looked up by the words before the last one.
            key = " ".join([*before, last[:_STEM]])
            stems[key].append((task, _Signal(kind, phrase[:-1]), weight))
    return whole, stems


_STEM = 4
_WHOLE, _STEMS = _compiled()
_BEGINNINGS = frozenset(phrase.split(" ")[0] for phrase in (*_WHOLE, *_STEMS))
"""How any phrase or stem begins; most words begin none."""


def classify_task(messages: Sequence[Message]) -> TaskGuess:
    """Guess the task of a conversation from the last thing the user said; deterministic.

    Looks at a bounded part of the text, in time linear in it. Knows English words only; what it
    does not understand is `general`.
    """
    said = next((each for each in reversed(messages) if each.role == "user"), messages[-1])
    text = _bounded(said.text())
    tally = _Tally()
    prose = (_BLOCK.sub(" ", text) if "```" in text else text).lower()
    _read_words(_WORD.findall(prose), tally)
    for shape in SHAPES:
        if _may_have(shape, text) and shape.pattern.search(text):
            for task, weight in shape.gains:
                tally.add(task, _FORM, weight)
    if may_be_code(text) and CODE.search(text):
        for task, weight in WITH_CODE:
            tally.add(task, _CODE, weight)
    return _decide(tally)


def _may_have(shape: Shape, text: str) -> bool:
    if shape.digits and text.isascii():
        ascii_text = text.encode()
        if len(ascii_text) - len(ascii_text.translate(None, _DIGITS)) < shape.digits:
            return False
    for each in shape.needs:  # noqa: SIM110 (any() with a generator takes twice as long)
        if each in text:
            return True
    return False


def _read_words(words: Sequence[str], tally: _Tally) -> None:
    for place, word in enumerate(words):
        if word not in _BEGINNINGS and word[:_STEM] not in _BEGINNINGS:
            continue
        factor = _OPENING if place < _OPENING_WORDS else 1.0
        phrase = ""
        for length in range(min(_MAX_PHRASE, len(words) - place)):
            last = words[place + length]
            begun, phrase = phrase, f"{phrase} {last}" if phrase else word
            for task, signal, weight in _WHOLE.get(phrase, ()):
                tally.add(task, signal, weight * factor)
            for task, signal, weight in _STEMS.get(f"{begun} {last[:_STEM]}".lstrip(), ()):
                if phrase.startswith(signal.text):
                    tally.add(task, signal, weight * factor)


def _decide(tally: _Tally) -> TaskGuess:
    if not tally.scores or max(tally.scores.values()) < _ENOUGH:
        return _UNKNOWN
    ranked = sorted(tally.scores.items(), key=lambda each: (-each[1], each[0]))
    (task, score), *others = ranked
    rival = others[0][1] if others else 0.0
    return TaskGuess(
        task=task,
        source="rules",
        confidence=round(score / (score + rival + _DOUBT), 2),
        signals=_kinds(tally.found[task]),
    )


def _kinds(found: Mapping[_Signal, float]) -> tuple[SignalKind, ...]:
    weights: dict[SignalKind, float] = defaultdict(float)
    for signal, weight in found.items():
        weights[signal.kind] += weight
    return tuple(sorted(weights, key=lambda kind: (-weights[kind], kind)))


def _bounded(text: str) -> str:
    if len(text) <= _READ_AT_START + _READ_AT_END:
        return text
    return f"{text[:_READ_AT_START]}\n{text[-_READ_AT_END:]}"
