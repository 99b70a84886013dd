"""Texts to be turned into vectors, and the vectors."""

from typing import Annotated

from pydantic import Field

MAX_INPUTS = 2_048
"""No wire takes more texts at once."""

Inputs = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, max_length=MAX_INPUTS)
]
"""The texts of a batch; none is empty."""

Dimensions = Annotated[int, Field(ge=1, le=65_536)]
"""The length of a vector."""

Vector = tuple[Annotated[float, Field(allow_inf_nan=False)], ...]
Vectors = tuple[Vector, ...]
"""In the order of the texts. Numbers are written with the fewest digits that give the same number
again, so none is rounded on its way."""
