"""A conversation as the one text that the Cursor CLI takes."""

from millrace.providers.protocol import ModelRequest
from millrace.providers.wires.content import json_instruction
from millrace.schemas.errors import RequestRefusedError
from millrace.schemas.message import ImagePart, Message

_SPEAKER = {"user": "User", "assistant": "Assistant"}


def cursor_prompt(request: ModelRequest) -> str:
    """Write the conversation as one text: instructions first, then each turn under its speaker.

    A single question stands alone. Temperature, `top_p`, seed, stop sequences and the limit of
    output tokens have no form here and are left out.

    Raises:
        RequestRefusedError: It holds an image or a tool, which the command takes from nobody.
    """
    if request.tools or any(m.role == "tool" or m.tool_calls for m in request.messages):
        raise RequestRefusedError(
            "the Cursor CLI has tools of its own and takes no others: leave out the tools, or "
            "route to another provider"
        )
    if any(_has_image(message) for message in request.messages):
        raise RequestRefusedError(
            "the Cursor CLI takes no images: leave them out, or route to another provider"
        )
    parts = [message.text() for message in request.messages if message.role == "system"]
    turns = [message for message in request.messages if message.role != "system"]
    if len(turns) == 1:
        parts.append(turns[0].text())
    else:
        parts += [f"{_SPEAKER[turn.role]}:\n{turn.text()}" for turn in turns]
    instruction = json_instruction(request.output)
    if instruction is not None:
        parts.append(instruction)
    prompt = "\n\n".join(part for part in parts if part)
    if not prompt.strip():
        raise RequestRefusedError("there is nothing to ask: every message is empty")
    return prompt


def _has_image(message: Message) -> bool:
    content = message.content
    return not isinstance(content, str) and any(isinstance(part, ImagePart) for part in content)
