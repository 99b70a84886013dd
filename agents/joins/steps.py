"""What the steps of a strategy ask: briefs, rendered from templates of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from millrace.agents.joins.state import Answer
from millrace.prompts.library import PromptLibrary
from millrace.schemas.call import Brief, Job
from millrace.schemas.errors import ConfigurationError, PromptError
from millrace.schemas.request import OutputSpec, Parameters
from millrace.schemas.vocabulary import MemberRole, TaskType

EMBEDDED_CHARS = 6_000
"""Of each answer: about 1,500 English tokens, which fit into most embedding models' windows."""

_TEMPLATES: Mapping[MemberRole, str] = {
    "judge": "judge_answers",
    "merge": "merge_answers",
    "refine": "refine_answer",
    "rate": "rate_answer",
    "plan": "plan_parts",
    "part": "answer_part",
    "combine": "combine_parts",
    "classify": "classify_request",
}
_SAMPLES: Mapping[MemberRole, Mapping[str, Any]] = {
    "judge": {"answers": ["a"]},
    "merge": {"answers": ["a"]},
    "refine": {"answer": "a"},
    "rate": {"answer": "a"},
    "plan": {"max_parts": 2},
    "part": {"title": "a", "instructions": "a"},
    "combine": {"parts": [{"title": "a", "result": "a"}], "missing": ["b"]},
    "classify": {"tasks": ["a"]},
}
_JUDGING: frozenset[MemberRole] = frozenset({"judge", "rate", "plan", "classify"})
"""Whose answers only the pipeline reads."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a request that was divided."""

    title: str
    instructions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Writes briefs; the same answers make the same brief.

    A step continues the job's own conversation, so that it knows what was asked.

    Raises:
        ConfigurationError: A template does not take what its step gives it.
    """

    library: PromptLibrary

    def __post_init__(self) -> None:
        problems = []
        for role, sample in _SAMPLES.items():
            try:
                self.library.render(_TEMPLATES[role], sample)
            except PromptError as error:
                problems.append(f"{role}: {error.message}")
        if problems:
            raise ConfigurationError(f"templates of steps do not fit: {'; '.join(problems)}")

    def judge(self, job: Job, answers: Sequence[Answer]) -> Brief:
        """Ask which of the answers is best, by its number from 1."""
        texts = [answer.text for answer in answers]
        return self._brief(
            "judge", job, {"answers": texts}, narrowed=("best", {"maximum": len(texts)})
        )

    def merge(self, job: Job, answers: Sequence[Answer]) -> Brief:
        """Ask for one answer out of several."""
        return self._brief("merge", job, {"answers": [answer.text for answer in answers]})

    def embed(self, answers: Sequence[Answer]) -> Brief:
        """Ask for a vector of each answer; of long ones, of their beginning."""
        return Brief(
            role="embed",
            inputs=tuple(answer.text[:EMBEDDED_CHARS] for answer in answers),
            output=OutputSpec(),
            tools=False,
            parameters=Parameters(),
        )

    def refine(self, job: Job, answer: Answer) -> Brief:
        """Ask for a better version of an answer."""
        return self._brief("refine", job, {"answer": answer.text})

    def rate(self, job: Job, answer: Answer) -> Brief:
        """Ask how sure a model is of its answer, from 0 to 1."""
        return self._brief("rate", job, {"answer": answer.text})

    def plan(self, job: Job, *, max_parts: int) -> Brief:
        """Ask how the work may be divided."""
        return self._brief(
            "plan", job, {"max_parts": max_parts}, narrowed=("parts", {"maxItems": max_parts})
        )

    def part(self, job: Job, part: Part) -> Brief:
        """Ask for one part of the work."""
        return self._brief("part", job, {"title": part.title, "instructions": part.instructions})

    def combine(
        self, job: Job, results: Sequence[tuple[Part, Answer]], missing: Sequence[Part]
    ) -> Brief:
        """Ask for the answer, from the results of the parts."""
        parts = [{"title": part.title, "result": answer.text} for part, answer in results]
        titles = [part.title for part in missing]
        return self._brief("combine", job, {"parts": parts, "missing": titles})

    def classify(self, job: Job) -> Brief:
        """Ask what kind of work the job is."""
        tasks = get_args(TaskType)
        return self._brief(
            "classify", job, {"tasks": list(tasks)}, narrowed=("task", {"enum": list(tasks)})
        )

    def _brief(
        self,
        role: MemberRole,
        job: Job,
        variables: Mapping[str, Any],
        *,
        narrowed: tuple[str, Mapping[str, Any]] | None = None,
    ) -> Brief:
        rendered = self.library.render(_TEMPLATES[role], variables)
        output = rendered.output
        if output is not None and narrowed is not None:
            output = _narrowed(output, *narrowed)
        given = job.parameters
        parameters = None
        if role in _JUDGING:
            # The job's limit and stop sequences are made for another answer than this one.
            parameters = Parameters(temperature=0.0, seed=given.seed)
        elif given.tool_choice is not None:
            parameters = given.model_copy(update={"tool_choice": None})
        return Brief(
            role=role,
            messages=rendered.messages,
            continues=True,
            output=output,
            tools=False,
            parameters=parameters,
        )


def _narrowed(output: OutputSpec, name: str, limits: Mapping[str, Any]) -> OutputSpec:
    """The same with further limits on one property, which only the request's plan knows."""
    schema = output.json_schema
    if schema is None or name not in schema.get("properties", {}):
        return output
    properties = schema["properties"]
    narrowed = {**schema, "properties": {**properties, name: {**properties[name], **limits}}}
    return output.model_copy(update={"json_schema": narrowed})
