"""Answers one model call: reads it, chooses how to behave, thinks up the reply, sends it."""

import random
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from millrace.providers.simulator.behaviour import Behaviour
from millrace.providers.simulator.call import Incoming, SimulatedCall
from millrace.providers.simulator.clock import Clock
from millrace.providers.simulator.composer import Composer
from millrace.providers.simulator.embeddings import embed_texts
from millrace.providers.simulator.exchange import Exchange
from millrace.providers.simulator.ledger import Ledger, LedgerLine
from millrace.providers.simulator.pace import Pace, choose_pace
from millrace.providers.simulator.playbook import Playbook
from millrace.providers.simulator.prompt_cache import PromptCache
from millrace.providers.simulator.quota import Quota, key_of
from millrace.providers.simulator.reply import Answer, Reply
from millrace.providers.simulator.settings import SimulatorSettings
from millrace.providers.simulator.wire import Wire
from millrace.schemas.errors import RequestRefusedError

_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404
_TOO_MANY: Final = 429
_NOTHING_SAID: Final = Answer(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """Everything that the answer to a call depends on."""

    settings: SimulatorSettings
    composer: Composer
    playbook: Playbook
    ledger: Ledger
    clock: Clock
    chance: random.Random
    quota: Quota
    cache: PromptCache | None = None

    async def answer(
        self, request: web.Request, wire: Wire, incoming: Incoming
    ) -> web.StreamResponse:
        """Answer a call; its ledger line is closed whatever happens, client gone included."""
        line = self.ledger.open(instance=incoming.instance, wire=wire.name)
        line.id = wire.reply_id(line.sequence)
        line.model = incoming.model
        exchange = Exchange(
            request=request, wire=wire, line=line, ledger=self.ledger, clock=self.clock
        )
        try:
            return await self._answer(exchange, wire, incoming, line)
        except ConnectionError:
            return exchange.response
        except Exception:
            line.ended = "error"
            raise
        finally:
            self.ledger.close(line)

    async def _answer(
        self, exchange: Exchange, wire: Wire, incoming: Incoming, line: LedgerLine
    ) -> web.StreamResponse:
        try:
            call = _read(wire, incoming)
            line.model, line.stream = call.model, call.stream
            line.messages_sha256 = call.digest()
            self._check_model(call)
            behaviour = self.playbook.choose(call)
            line.fault, line.label = behaviour.fault, behaviour.label
            pace = choose_pace(self.settings, call.instance, behaviour, self.chance)
            if behaviour.http is not None:
                return await exchange.refuse(
                    behaviour.http,
                    f"HTTP {behaviour.http}, as ordered. (simulated)",
                    retry_after=behaviour.retry_after,
                )
            reply = self._reply(wire, call, behaviour, pace, line)
            if await self._over_quota(exchange, incoming, reply):
                line.input_tokens = line.cached_tokens = line.cache_write_tokens = 0
                return exchange.response
        except RequestRefusedError as refusal:
            status = _NOT_FOUND if refusal.code == "model_not_found" else _BAD_REQUEST
            return await exchange.refuse(status, refusal.message)
        if behaviour.hang:
            return await exchange.hang()
        if call.stream:
            return await exchange.send_stream(reply, behaviour, pace)
        return await exchange.send_whole(reply, behaviour, pace)

    async def _over_quota(self, exchange: Exchange, incoming: Incoming, reply: Reply) -> bool:
        """Refuse a call for which nothing is left; the others' headers say what is."""
        settings = self.settings.of(incoming.instance).quota
        if settings is None:
            return False
        exchange.ruling = ruling = self.quota.rule(
            settings,
            instance=incoming.instance,
            key=key_of(incoming.headers),
            tokens=reply.input_tokens + reply.output_tokens,
        )
        if ruling.retry_after is None:
            return False
        message = "The rate limit is reached. (simulated)"
        await exchange.refuse(_TOO_MANY, message, retry_after=ruling.retry_after)
        return True

    def _check_model(self, call: SimulatedCall) -> None:
        models = self.settings.of(call.instance).models
        if models and call.model not in models:
            raise RequestRefusedError(
                f"The model {call.model!r} does not exist at {call.instance!r}",
                code="model_not_found",
            )

    def _reply(
        self,
        wire: Wire,
        call: SimulatedCall,
        behaviour: Behaviour,
        pace: Pace,
        line: LedgerLine,
    ) -> Reply:
        if call.embeds:
            answer, vectors = _NOTHING_SAID, embed_texts(call)
        else:
            answer = self.composer.compose(call, behaviour, line.messages_sha256)
            vectors = ()
        cached = written = 0
        if self.cache is not None and wire.caching != "never" and not call.embeds:
            if wire.caching == "by_itself":
                cached, _ = self.cache.lookup(call)
            elif call.cache_asked:
                cached, written = self.cache.lookup(call)
        line.input_tokens = call.input_tokens()
        line.cached_tokens, line.cache_write_tokens = cached, written
        return Reply(
            id=line.id,
            sequence=line.sequence,
            model=call.model,
            created=line.started_at,
            answer=answer,
            input_tokens=line.input_tokens,
            vectors=vectors,
            base64_vectors=call.base64_vectors,
            cached_tokens=cached,
            cache_write_tokens=written,
            report_usage=call.report_usage and not behaviour.no_usage,
            probability=self.composer.probability(call, behaviour),
            first_token_seconds=pace.first_token_seconds,
            token_seconds=pace.token_seconds,
        )


def _read(wire: Wire, incoming: Incoming) -> SimulatedCall:
    # The parts that only some requests have are read as they come, not by a model of each.
    try:
        return wire.read(incoming)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise RequestRefusedError(
            f"invalid request: a part has the wrong shape ({type(error).__name__})"
        ) from error
