"""Short answers to closed questions."""

from collections import Counter

import pytest

from millrace.providers.simulator.closed_question import (
    ClosedQuestion,
    answer_closed_question,
    read_closed_question,
)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Is this a breaking change? Answer yes or no.", ("Yes", "No")),
        ("Safe to deploy (y/n)?", ("Yes", "No")),
        ("A lock is needed here. True or false?", ("True", "False")),
        ("Choose one of: low, medium, high.", ("low", "medium", "high")),
        ("Reply with exactly one of billing, bug or other", ("billing", "bug", "other")),
        ("Choose between Kafka and RabbitMQ.", ("Kafka", "RabbitMQ")),
        ("The answer must have this form: one of 'retry', 'skip'", ("retry", "skip")),
        ("Which is best?\nA) a cache\nB) a queue\nC) nothing", ("A", "B", "C")),
    ],
)
def test_the_options_of_a_closed_question_are_found(text: str, options: tuple[str, ...]) -> None:
    """Yes or no, true or false, one of several, or letters."""
    question = read_closed_question(text)

    assert question is not None
    assert options == question.options


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("What is 17 * 23? Reply with a single number.", "391"),
        ("Give only the number: 4 + 38", "42"),
        ("As an integer: 5 - 9", "-4"),
    ],
)
def test_a_sum_is_worked_out(text: str, answer: str) -> None:
    """All models but dissenters give the right number."""
    question = read_closed_question(text)

    assert question is not None
    assert answer == answer_closed_question(question, asked=text, model="m", seed=3, dissent=0)


@pytest.mark.parametrize(
    "text",
    [
        "Explain how consumer groups rebalance.",
        "The function returns one of several errors; describe them at length, please, with care",
        "Count the yes votes and say no more.",
        "yes or no " + "x" * 5000,
    ],
)
def test_an_open_question_is_left_open(text: str) -> None:
    """Prose answers those."""
    assert read_closed_question(text) is None


def test_most_models_agree_and_each_keeps_to_its_answer() -> None:
    """A vote over many models finds a majority; dissent is about as frequent as set."""
    question = ClosedQuestion(("low", "medium", "high"))

    def ask(model: int) -> str:
        return answer_closed_question(
            question, asked="How severe?", model=f"m{model}", seed=0, dissent=0.2
        )

    answers = [ask(model) for model in range(500)]

    assert answers == [ask(model) for model in range(500)]
    assert pytest.approx(Counter(answers).most_common(1)[0][1], rel=0.1) == 500 * 0.8
