"""Tool calls and their results across a conversation, paired up for wires that need both."""

from collections import deque
from dataclasses import dataclass

from millrace.schemas.errors import RequestRefusedError
from millrace.schemas.message import Message, ToolCall


@dataclass(frozen=True, slots=True)
class Turn:
    """A message whose tool calls all have ids, or whose result names its call."""

    message: Message
    tool_calls: tuple[ToolCall, ...] = ()
    answers: ToolCall | None = None
    """For a tool's result: the call it answers."""


def pair_tool_results(messages: tuple[Message, ...]) -> tuple[Turn, ...]:
    """Give each tool call an id and each tool result its call.

    Ollama and Gemini give calls no ids, others demand them: those missing are numbered through
    the conversation. A result without an id answers the oldest call not yet answered.

    Raises:
        RequestRefusedError: A result answers no call.
    """
    turns: list[Turn] = []
    open_calls: dict[str, ToolCall] = {}
    unanswered: deque[str] = deque()
    numbered = 0
    for message in messages:
        if message.role == "tool":
            turns.append(Turn(message, answers=_answered(message, open_calls, unanswered)))
            continue
        calls = []
        for call in message.tool_calls:
            if call.id is None:
                numbered += 1
                call = call.model_copy(update={"id": f"call_{numbered}"})  # noqa: PLW2901
            calls.append(call)
            open_calls[str(call.id)] = call
            unanswered.append(str(call.id))
        turns.append(Turn(message, tuple(calls)))
    return tuple(turns)


def _answered(
    message: Message, open_calls: dict[str, ToolCall], unanswered: deque[str]
) -> ToolCall:
    call_id = message.tool_call_id
    if call_id is None and unanswered:
        call_id = unanswered[0]
    if call_id is None or call_id not in open_calls:
        raise RequestRefusedError(
            f"a tool message answers call {call_id!r}, which no assistant message before it "
            "makes: send the assistant's tool_calls too"
        )
    if call_id in unanswered:
        unanswered.remove(call_id)
    return open_calls[call_id]
