"""Which vectors end a request, and what of them reaches the requester."""

import pytest
from pipeline_joins import make_join
from pipeline_records import make_call, make_job, make_outcome, make_plan

from millrace.agents.joins.state import Decision
from millrace.schemas.call import Call
from millrace.schemas.embedding import Vectors
from millrace.schemas.response import Response

JOIN = make_join()
TWO: Vectors = ((0.1, -4.7e-05), (1.0, 0.006929283495992422))


def call(*, dimensions: int | None = None, candidates: int = 1) -> Call:
    """A call with two texts."""
    job = make_job(messages=(), inputs=("a", "b"), dimensions=dimensions)
    return make_call(job, make_plan(candidates))


def decided(of: Call, vectors: Vectors) -> Decision:
    """What follows from an answer."""
    return JOIN.decide(None, make_outcome(of, text="", embeddings=vectors), 0)


def ended(decision: Decision) -> Response:
    """The terminal record."""
    assert decision.response is not None
    return decision.response


@pytest.mark.parametrize("dimensions", [None, 2])
def test_a_vector_for_each_text_ends_the_request(dimensions: int | None) -> None:
    """With no text, which is checked for questions only."""
    response = ended(decided(call(dimensions=dimensions), TWO))

    assert (response.status, response.text, response.embeddings) == ("completed", "", TWO)
    assert response.model == "m0"


@pytest.mark.parametrize(
    ("vectors", "dimensions", "found"),
    [
        ((), None, "0 vectors for 2 inputs"),
        (TWO[:1], None, "1 vectors for 2 inputs"),
        ((*TWO, TWO[0]), None, "3 vectors for 2 inputs"),
        ((TWO[0], (1.0,)), None, "vectors of 1, 2 numbers"),
        (((), ()), None, "vectors of 0 numbers"),
        (TWO, 3, "vectors of 2 numbers, not 3"),
    ],
)
def test_other_vectors_are_a_failure_and_reach_nobody(
    vectors: Vectors, dimensions: int | None, found: str
) -> None:
    """What it cost stays in the books."""
    response = ended(decided(call(dimensions=dimensions), vectors))

    assert response.error is not None
    assert (response.status, response.error.code) == ("failed", "output_invalid")
    assert found in response.error.message
    assert response.embeddings == ()
    assert response.cost_usd is not None


def test_the_next_entry_is_asked_after_a_bad_answer() -> None:
    """As for questions."""
    (following,) = decided(call(candidates=2), ()).calls

    assert (following.attempt, following.target.provider) == (2, "p01")
    assert following.job.inputs == ("a", "b")
