"""Well-known embedding models, so that they need no description in the config file.

A length is that of a vector which nobody asked to be shorter. What an entry itself says of a model
comes first. Sources, as of 2026:

- OpenAI: the API reference for `/v1/embeddings` (8,192 tokens for all its models, others quote
  8,191), and LlamaIndex's table of them,
  https://developers.llamaindex.ai/typescript/framework-api-reference/variables/all_openai_embedding_models
- Gemini: https://ai.google.dev/gemini-api/docs/models/gemini-embedding-001, and for the second
  https://openrouter.ai/google/gemini-embedding-2/api and https://zilliz.com/ai-models/gemini-embedding-2
- EmbeddingGemma: https://ai.google.dev/gemma/docs/embeddinggemma
- Open models by their cards: https://huggingface.co/nomic-ai/nomic-embed-text-v1.5,
  https://mixedbread.com/docs/embeddings/mxbai-embed-large-v1,
  https://docs.api.nvidia.com/nim/reference/baai-bge-m3 (for `bge-large`, too),
  https://huggingface.co/sentence-transformers/paraphrase-multilingual-mpnet-base-v2,
  https://weaviate.io/developers/wcs/embeddings/models (Arctic Embed 2 large, the only size that
  Ollama has), https://inference.readthedocs.io/en/stable/models/builtin/embedding (Qwen3, by size)
- The others of Ollama's library, and all of these once more:
  https://www.morphllm.com/ollama-embedding-models
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
