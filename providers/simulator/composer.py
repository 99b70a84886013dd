"""Thinks up answers: the same seed, model and messages give the same one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from millrace.providers.simulator.behaviour import Behaviour
from millrace.providers.simulator.call import SimulatedCall, ToolOffer
from millrace.providers.simulator.closed_question import (
    answer_closed_question,
    read_closed_question,
)
from millrace.providers.simulator.directive import without_directives
from millrace.providers.simulator.draw import number, share, stream
from millrace.providers.simulator.json_sample import sample
from millrace.providers.simulator.json_wish import wished_json
from millrace.providers.simulator.prose import CODE, SENTENCES, opening, task_of
from millrace.providers.simulator.reply import Answer
from millrace.providers.simulator.tokens import MARK, split_tokens

_NOTHING: Final = Answer(())
_ANY_OBJECT: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "confidence": {"type": "number"}},
    "required": ["answer", "confidence"],
}
"""What is answered when JSON is asked without a schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composer:
    """Answers calls, as the request asks and the behaviour orders.

    An ordered text is said as it is. Else a tool is called where the request demands one or
    names one; JSON is answered where JSON is asked, a short answer to a closed question, and
    prose for the rest.
    """

    seed: int
    answer_tokens: tuple[int, int]
    dissent: float

    def compose(self, call: SimulatedCall, behaviour: Behaviour, digest: str) -> Answer:
        """Make the answer; `digest` is the call's. Stop sequences and the token limit hold."""
        if behaviour.empty:
            return _NOTHING
        tool: str | None = None
        if behaviour.answer is not None:
            tokens = split_tokens(behaviour.answer)
        else:
            offer = self._tool(call)
            if offer is not None:
                tool = offer.name
                tokens = self._json(call, offer.parameters)
            else:
                tokens = self._text(call, behaviour, digest)
        answer = Answer(tokens, "tool_calls" if tool else "stop", None, tool)
        if call.stop and tool is None:
            answer = _stopped(answer, call.stop)
        if call.max_tokens is not None and len(answer.tokens) > call.max_tokens:
            answer = Answer(answer.tokens[: call.max_tokens], "length", None, tool)
        return answer

    def probability(self, call: SimulatedCall, behaviour: Behaviour) -> float | None:
        """How probable each token is: as ordered, else between a half and 1; None if not asked."""
        if not call.probabilities_asked:
            return None
        if behaviour.probability is not None:
            return behaviour.probability
        return round(0.5 + share(self.seed, "probability", call.model, call.question) / 2, 3)

    def _text(self, call: SimulatedCall, behaviour: Behaviour, digest: str) -> list[str]:
        asked = without_directives(call.question)
        if not behaviour.wrong_json:
            wished, schema = call.json_asked, call.json_schema
            if not wished:
                wished, schema = wished_json(call.turns, asked)
            if wished:
                return self._json(call, schema or _ANY_OBJECT)
            if behaviour.tokens is None:
                closed = read_closed_question(asked)
                if closed is not None:
                    short = answer_closed_question(
                        closed, asked=asked, model=call.model, seed=self.seed, dissent=self.dissent
                    )
                    return split_tokens(f"{MARK} {short}")
        return self._prose(call, asked, digest, behaviour.tokens)

    def _prose(self, call: SimulatedCall, asked: str, digest: str, length: int | None) -> list[str]:
        drawn = number(self.seed, call.model, digest)
        least, greatest = (length, length) if length is not None else self.answer_tokens
        wanted = least + drawn % (greatest - least + 1)
        task = task_of(asked)
        if task == "general":
            system = next((turn.text for turn in call.turns if turn.role == "system"), "")
            task = task_of(system) if system else task
        tokens = [MARK, *opening(task, asked)]
        code = CODE.get(task)
        if code is not None and len(tokens) + len(code) < wanted:
            tokens += code
        sentences = SENTENCES[task]
        at = drawn >> 32
        while len(tokens) < wanted:
            sentence = sentences[at % len(sentences)]
            at += 1
            # Whole sentences where the range leaves room for choice.
            if len(tokens) >= least and len(tokens) + len(sentence) > greatest:
                break
            tokens += sentence
        if len(tokens) > greatest:
            del tokens[greatest:]
            if greatest > 1:
                tokens[-1] = " …" if tokens[-2] == "." else "."
        return tokens

    def _json(self, call: SimulatedCall, schema: Mapping[str, Any]) -> list[str]:
        # Without the model, so that an ensemble finds a majority for JSON too.
        asked = without_directives(call.question)
        dissents = share(self.seed, "dissent", call.model, asked) < self.dissent
        chance = stream(self.seed, "json", asked, call.model if dissents else "")
        return split_tokens(orjson.dumps(sample(schema, chance=chance)).decode())

    def _tool(self, call: SimulatedCall) -> ToolOffer | None:
        if not call.tools or call.tool_choice == "none" or call.turns[-1].role == "tool":
            return None
        lowered = call.question.lower()
        for offer in call.tools:
            if offer.name.lower() in lowered or offer.name.replace("_", " ").lower() in lowered:
                return offer
        return call.tools[0] if call.tool_choice == "required" else None


def _stopped(answer: Answer, stop: tuple[str, ...]) -> Answer:
    text = answer.text
    found = [(text.find(sequence), sequence) for sequence in stop if sequence in text]
    if not found:
        return answer
    at, sequence = min(found)
    return Answer(split_tokens(text[:at]), "stop_sequence", sequence)
