"""Decides how to behave in a call: by standing rates, by script, by the request's directive."""

import random
from collections import OrderedDict
from typing import Final

from millrace.providers.simulator.behaviour import PLAIN, Behaviour, Directive, ScriptedBehaviour
from millrace.providers.simulator.call import SimulatedCall
from millrace.providers.simulator.directive import (
    find_conditional,
    find_directive,
    without_directives,
)
from millrace.providers.simulator.settings import SimulatorSettings

_COUNTED_CONVERSATIONS: Final = 65_536


class Playbook:
    """Chooses each call's behaviour; a directive wins over the script, which wins over rates.

    What they set adds up where it does not conflict, so a directive that only fixes the length
    of an answer leaves a scripted fault in force.
    """

    def __init__(self, *, settings: SimulatorSettings, chance: random.Random) -> None:
        self._settings = settings
        self._chance = chance
        self._script: list[tuple[ScriptedBehaviour, int]] = []
        self._directed: OrderedDict[str, int] = OrderedDict()

    def add(self, scripted: ScriptedBehaviour) -> None:
        """Append to the script: for the next `times` calls that match it."""
        self._script.append((scripted, scripted.times))

    def script(self) -> tuple[ScriptedBehaviour, ...]:
        """What the script still holds, `times` being what is left."""
        return tuple(scripted.model_copy(update={"times": left}) for scripted, left in self._script)

    def clear(self) -> None:
        """Empty the script, and forget which directives were followed how often."""
        self._script.clear()
        self._directed.clear()

    def choose(self, call: SimulatedCall) -> Behaviour:
        """Say how to behave in this call; counts it against `times`.

        Raises:
            RequestRefusedError: The request's directive cannot be read.
        """
        behaviour = self._by_rate(call.instance)
        if self._script:
            scripted = self._by_script(call)
            if scripted is not None:
                behaviour = scripted.over(behaviour)
        directive = find_directive(call.question)
        if directive is not None and self._applies(directive, call):
            behaviour = directive.over(behaviour)
        for turn in call.turns:
            if turn.role != "user":
                continue
            for each in find_conditional(turn.text):
                told = each.where or ""
                if told in without_directives(call.question) and self._applies(each, call):
                    behaviour = each.over(behaviour)
        return behaviour

    def _by_rate(self, instance: str) -> Behaviour:
        rates = self._settings.of(instance).rates
        if not rates:
            return PLAIN
        drawn = self._chance.random()
        for rate in rates:
            if drawn < rate.share:
                return rate.behaviour
            drawn -= rate.share
        return PLAIN

    def _by_script(self, call: SimulatedCall) -> ScriptedBehaviour | None:
        for index, (scripted, left) in enumerate(self._script):
            if scripted.instance not in (None, call.instance):
                continue
            if scripted.model not in (None, call.model):
                continue
            if left == 1:
                del self._script[index]
            else:
                self._script[index] = (scripted, left - 1)
            return scripted
        return None

    def _applies(self, directive: Directive, call: SimulatedCall) -> bool:
        if directive.only not in (None, call.instance):
            return False
        if directive.times is None:
            return True
        conversation = call.conversation_digest()
        seen = self._directed.pop(conversation, 0)
        self._directed[conversation] = seen + 1
        if len(self._directed) > _COUNTED_CONVERSATIONS:
            self._directed.popitem(last=False)
        return seen < directive.times
