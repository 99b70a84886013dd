"""The Python client for other services: requests and their answers over the topics.

Needs aiokafka and pydantic, and nothing else of the pipeline. Imports schemas.
"""

from millrace.client.answer import Answer
from millrace.client.blocking import BlockingAnswer, BlockingMillrace
from millrace.client.connection import KafkaConnection
from millrace.client.millrace import Millrace
from millrace.client.pieces import Piece, Position

__all__ = [
    "Answer",
    "BlockingAnswer",
    "BlockingMillrace",
    "KafkaConnection",
    "Millrace",
    "Piece",
    "Position",
]
