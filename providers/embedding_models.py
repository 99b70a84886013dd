"""Well-known embedding models, so that they need no description in the config file.

Vector lengths and windows are those of the vendors' model pages in 2026. What an entry itself says
of a model comes first.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_EMBEDS = re.compile(r"embed|^(bge|e5|gte|all-minilm|all-mpnet|paraphrase-multilingual)\b")
_RERANKS = re.compile(r"rerank")

_FACTS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "text-embedding-3-small": {"dimensions": 1536, "context_window": 8192},
        "text-embedding-3-large": {"dimensions": 3072, "context_window": 8192},
        "text-embedding-ada-002": {"dimensions": 1536, "context_window": 8192},
        "gemini-embedding-001": {"dimensions": 3072, "context_window": 2048},
        "gemini-embedding-2": {"dimensions": 3072, "context_window": 8192},
        "nomic-embed-text": {"dimensions": 768},
        "nomic-embed-text-v1.5": {"dimensions": 768},
        "mxbai-embed-large": {"dimensions": 1024},
        "all-minilm": {"dimensions": 384},
        "bge-m3": {"dimensions": 1024},
        "bge-large": {"dimensions": 1024},
        "snowflake-arctic-embed2": {"dimensions": 1024},
        "paraphrase-multilingual": {"dimensions": 768},
        "embeddinggemma": {"dimensions": 768},
        "qwen3-embedding:0.6b": {"dimensions": 1024},
        "qwen3-embedding:4b": {"dimensions": 2560},
        "qwen3-embedding:8b": {"dimensions": 4096},
    }
)
"""By the name without its owner; with the tag where the sizes of a family differ."""


def embedding_facts(model: str) -> dict[str, Any] | None:
    """What is known of an embedding model, as its entry would say it; None where it is none.

    A model is taken for one by its name: `owner/name:tag`, in whatever case.
    """
    tagged = model.lower().rpartition("/")[2]
    name = tagged.partition(":")[0]
    if not _EMBEDS.search(name) or _RERANKS.search(name):
        return None
    return {"capabilities": ["embeddings"], **_FACTS.get(tagged, _FACTS.get(name, {}))}
