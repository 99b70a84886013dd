"""A streamed call as lean as aiohttp and orjson allow; what the peers of the pipeline make."""

from collections.abc import AsyncIterator

import aiohttp
import orjson

_HEADERS = {"content-type": "application/json"}


def session() -> aiohttp.ClientSession:
    """A session without a limit on connections."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
    )


async def deltas(http: aiohttp.ClientSession, url: str, prompt: str) -> AsyncIterator[str]:
    """Ask and yield the pieces of text; raises when the answer breaks off."""
    body = orjson.dumps(
        {
            "model": "gpt-4.1-mini",
            "messages": [{"role": "user", "content": prompt}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    async with http.post(f"{url}/chat/completions", data=body, headers=_HEADERS) as response:
        response.raise_for_status()
        rest = b""
        async for piece in response.content.iter_any():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if not line.startswith(b"data: "):
                    continue
                if line.startswith(b"data: [DONE]"):
                    return
                for choice in orjson.loads(line[6:])["choices"]:
                    if text := choice["delta"].get("content"):
                        yield text
        raise ConnectionError("the answer broke off")
