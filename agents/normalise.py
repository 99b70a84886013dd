"""Takes off a text what does not change an answer."""

import re
import unicodedata

_EMPHASIS = re.compile(r"(?<!\w)[*_`]+(?=\S)|(?<=\S)[*_`]+(?!\w)")
_TRAILING = " .,;:!?。、"


def normalised(text: str) -> str:
    """Take off what does not change an answer.

    Compatibility forms (Unicode NFKC), case, white space, Markdown emphasis and trailing
    punctuation; a text of nothing but these keeps its punctuation.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    bare = " ".join(_EMPHASIS.sub("", folded).split())
    return bare.rstrip(_TRAILING) or bare
