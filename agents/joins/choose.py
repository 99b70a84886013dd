"""Chooses among answers without asking a model."""

from collections.abc import Mapping
from typing import Any

from millrace.agents.joins.moves import Finish
from millrace.agents.joins.state import Answer
from millrace.agents.vote import NORMALIZED, Ballot, vote
from millrace.schemas.call import Plan
from millrace.schemas.embedding import Vector


def count(
    plan: Plan,
    answers: Mapping[int, Answer],
    *,
    weighted: bool = False,
    vectors: Mapping[int, Vector] | None = None,
) -> Ballot:
    """Vote by the plan's rule; by wording where it is for vectors and there are none."""
    weights = {number: plan.members[number].weight for number in answers}
    return vote(
        {number: answer.text for number, answer in answers.items()},
        data={number: comparable(answer) for number, answer in answers.items()},
        rule=plan.vote or NORMALIZED,
        weights=weights if weighted else None,
        vectors=vectors,
    )


def unanimous(answers: Mapping[int, Answer]) -> bool:
    """Whether all answers are the same, whatever the rule."""
    texts = {number: answer.text for number, answer in answers.items()}
    data = {number: comparable(answer) for number, answer in answers.items()}
    return not vote(texts, data=data).dissenting


def by_vote(
    plan: Plan,
    answers: Mapping[int, Answer],
    *,
    weighted: bool = False,
    vectors: Mapping[int, Vector] | None = None,
    notes: tuple[str, ...] = (),
) -> Finish:
    """The answer with the most votes."""
    ballot = count(plan, answers, weighted=weighted, vectors=vectors)
    return Finish(
        answer=answers[ballot.winner],
        by="weight" if weighted else "vote",
        member=ballot.winner,
        agreeing=ballot.agreeing,
        dissenting=ballot.dissenting,
        agreement=ballot.agreement,
        notes=notes,
    )


def by_score(plan: Plan, answers: Mapping[int, Answer], *, notes: tuple[str, ...] = ()) -> Finish:
    """The answer that the validator found best; of equals, that with the most votes."""
    top = max(answer.quality.score for answer in answers.values())
    leaders = {number: answer for number, answer in answers.items() if answer.quality.score == top}
    winner = count(plan, leaders).winner
    return chosen(plan, answers, winner, notes=notes)


def chosen(
    plan: Plan, answers: Mapping[int, Answer], winner: int, *, notes: tuple[str, ...] = ()
) -> Finish:
    """One member's answer, and who gave the same."""
    agreeing = [
        number
        for number in sorted(answers)
        if number == winner
        or count(plan, {winner: answers[winner], number: answers[number]}).dissenting == ()
    ]
    return Finish(
        answer=answers[winner],
        by="score",
        member=winner,
        agreeing=tuple(agreeing),
        dissenting=tuple(sorted(answers.keys() - set(agreeing))),
        agreement=round(len(agreeing) / len(answers), 6),
        notes=notes,
    )


def comparable(answer: Answer) -> Any:
    """What a vote compares where it is not the text: parsed JSON, or the tools to be called."""
    if answer.data is None and answer.tool_calls:
        return [[call.name, call.arguments] for call in answer.tool_calls]
    return answer.data
