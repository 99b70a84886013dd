"""Puts the pieces of streamed tool calls together."""

from collections.abc import Iterator

from millrace.providers.protocol import ToolArgumentsDelta
from millrace.schemas.message import ToolCall


class _Pieces:
    __slots__ = ("arguments", "id", "name", "signature")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name = ""
        self.arguments: list[str] = []
        self.signature: str | None = None


class ToolCallPieces:
    """The tool calls of one reply, in the order in which they began.

    `key` is whatever the wire tells calls apart by; the index of the deltas counts from 0.
    """

    __slots__ = ("_by_key", "_calls")

    def __init__(self) -> None:
        self._by_key: dict[object, int] = {}
        self._calls: list[_Pieces] = []

    def __bool__(self) -> bool:
        return bool(self._calls)

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def id_of(self, key: object) -> str | None:
        """The id given to the call of this key, if any was."""
        index = self._by_key.get(key)
        return None if index is None else self._calls[index].id

    def next_key(self) -> int:
        """A key for a call of a wire that tells none apart."""
        return len(self._calls)

    def last_key(self) -> object:
        """The key of the call that began last; 0 before any did."""
        return next(reversed(self._by_key), 0)

    def add(
        self,
        key: object,
        *,
        call_id: str | None = None,
        name: str | None = None,
        arguments: str = "",
        signature: str | None = None,
    ) -> Iterator[ToolArgumentsDelta]:
        """Take a piece and give the delta for it; nothing when it says nothing new.

        Raises:
            TypeError: A part of it is no text.
        """
        if not (
            isinstance(arguments, str)
            and isinstance(name, str | None)
            and isinstance(call_id, str | None)
        ):
            raise TypeError("a part of a tool call is no text")
        index = self._by_key.get(key)
        if index is None:
            index = self._by_key[key] = len(self._calls)
            self._calls.append(_Pieces())
        call = self._calls[index]
        new_id = call_id if call_id and call.id is None else None
        new_name = name if name and not call.name else None
        if new_id is not None:
            call.id = new_id
        if new_name is not None:
            call.name = new_name
        call.signature = signature or call.signature
        if arguments:
            call.arguments.append(arguments)
        if arguments or new_id is not None or new_name is not None:
            yield ToolArgumentsDelta(index=index, id=new_id, name=new_name, arguments=arguments)

    def start_over(self, key: object) -> None:
        """Let the next piece under this key begin another call."""
        self._by_key[object()] = self._by_key.pop(key)

    def calls(self) -> tuple[ToolCall, ...]:
        """The calls as they stand now; one without arguments has an empty object."""
        return tuple(
            ToolCall(
                id=call.id,
                name=call.name,
                arguments="".join(call.arguments) or "{}",
                signature=call.signature,
            )
            for call in self._calls
        )
