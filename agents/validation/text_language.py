"""Tells which language a text is written in, by its script and its commonest words.

Enough to see that an answer came in another language than was asked for; no more. Where the
evidence is thin (a short text, code, names) no language is named. The words are the most frequent
ones of each language that few others share.
"""

import re
from collections import Counter

_MAX_LOOKED_AT_CHARS = 4_000
_ENOUGH_LETTERS = 20
_ENOUGH_WORDS = 4
_CLEAR_SHARE = 0.08
"""Of all words, those that are typical; about a third is usual."""

_SCRIPTS = {
    "ja": re.compile(r"[\u3040-\u30ff]"),
    "ko": re.compile(r"[\uac00-\ud7af\u1100-\u11ff]"),
    "zh": re.compile(r"[\u4e00-\u9fff]"),
    "uk": re.compile(r"[іїєґІЇЄҐ]"),
    "ru": re.compile(r"[\u0400-\u04ff]"),
    "ar": re.compile(r"[\u0600-\u06ff]"),
    "he": re.compile(r"[\u0590-\u05ff]"),
    "el": re.compile(r"[\u0370-\u03ff]"),
    "hi": re.compile(r"[\u0900-\u097f]"),
    "th": re.compile(r"[\u0e00-\u0e7f]"),
}
"""Kana before Chinese characters, which Japanese has, too; Ukrainian letters before Cyrillic."""

_DECIDING_SHARE = {"ja": 0.1, "uk": 0.02}
"""Of all letters; half for the others."""

_WORDS = {
    "en": "the and of to is that for it with was are this be by not have from or which an you",
    "de": "der die und das ist nicht ein eine zu den mit von für auf dem sich des auch werden wird",
    "fr": "le la les et est des un une du que pour dans qui pas sur avec au ce il sont nous cette",
    "es": "el la los las y es de que en un una por con para no del se su como está más pero",
    "it": "il la e di che è un una per non con del della sono gli le da anche nel più questo",
    "pt": "o a os as e é de que em um uma para com não do da por se como mais está são",
    "nl": "de het een en van is dat niet op te zijn voor met die in aan ook als maar wordt er",
    "sv": "och att det som är en för på av med inte den till ett har om var jag kan",
    "pl": "i w nie na się że jest do to z jak ale po co jego być oraz przez dla który",
    "tr": "ve bir bu için ile da de çok daha olarak gibi ne var olan en kadar sonra değil",
}
_TYPICAL = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)

LANGUAGES = frozenset(_TYPICAL) | frozenset(_SCRIPTS)
"""Those that can be told, by ISO 639-1."""


def language_of(text: str) -> str | None:
    """The language that the beginning of a text is written in; None where that is not clear."""
    sample = _CODE.sub(" ", text[:_MAX_LOOKED_AT_CHARS])
    words = [word.lower() for word in _WORD.findall(sample)]
    letters = sum(map(len, words))
    if letters < _ENOUGH_LETTERS:
        return None
    for language, script in _SCRIPTS.items():
        if len(script.findall(sample)) >= letters * _DECIDING_SHARE.get(language, 0.5):
            return language
    counted = Counter(words)
    hits = sorted(
        (
            (sum(counted[word] for word in typical), language)
            for language, typical in _TYPICAL.items()
        ),
        reverse=True,
    )
    (best, language), (second, _) = hits[0], hits[1]
    clear = best >= _ENOUGH_WORDS and best >= len(words) * _CLEAR_SHARE and best > second
    return language if clear else None
