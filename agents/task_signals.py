"""What in a request's text speaks for which kind of work, and how much.

Weights are counted once a text: 1 hints, 2 speaks for the task, 3 and more decide unless
something stronger speaks for another. Words are stems: they match what begins with them where
they end in `*`.
"""

import re
from typing import NamedTuple

from millrace.schemas.vocabulary import TaskType

WORDS: dict[TaskType, dict[str, float]] = {
    "code_generation": {
        "implement*": 2.5, "write code": 3, "code a": 3, "function": 1, "functions": 0.5,
        "method": 1, "class": 1, "script": 2, "regex": 1.5, "regular expression": 2.5, "query": 1,
        "sql query": 2.5, "endpoint": 1.5, "algorithm": 1, "hook": 1.5, "component": 1,
        "dockerfile": 2.5, "terraform module": 2.5, "scaffold": 2, "boilerplate": 2, "python": 1,
        "typescript": 1, "javascript": 1, "java": 1, "kotlin": 1.5, "rust": 1, "golang": 1,
        "go": 0.3, "bash": 1, "react": 0.5, "fastapi": 1, "c++": 1, "unit tests": 2.5,
        "unit test": 2.5, "write tests": 2.5, "pytest": 1, "thread-safe": 1, "crate*": 1,
        "library": 0.5, "convert": 1, "idiomatic": 1.5, "add a": 0.7, "consumer": 0.5,
        "parser": 1.5, "program": 1, "cli": 1, "snippet": 1, "in python": 1.5, "in rust": 1.5,
        "in go": 1.5, "in java": 1.5, "in c++": 1.5, "write a": 0.7, "create a": 0.5,
        "build a": 0.7, "generate a": 0.7, "constructor": 1,
    },
    "code_review": {
        "review": 1.5, "code review": 4, "review this": 1, "review the": 0.7, "pull request": 2.5,
        "pr": 1, "merge request": 2.5, "merging": 1.5, "lgtm": 4, "critique": 2.5,
        "code smell*": 4, "best practice*": 1.5, "feedback": 1.5, "audit": 2.5, "improved": 1.5,
        "improvement*": 1, "thread safe": 2.5, "race condition*": 2.5, "memory leak*": 0.7,
        "readability": 2.5, "naming": 1.5, "security problem*": 2, "vulnerabilit*": 2,
        "performance issue*": 2, "refactored": 2, "regression*": 1, "diff": 1.5, "look over": 2.5,
        "this implementation": 1.5, "quality of": 1, "rate it": 1.5, "issues": 0.7,
        "this code": 0.7, "my code": 1, "what do you think": 1.5, "suggest": 0.3, "smell*": 1.5,
        "maintainab*": 2, "anti-pattern*": 2,
    },
    "reasoning": {
        "step by step": 1.5, "prove": 3, "proof": 2, "probability": 2.5, "expected": 1,
        "expected value": 2, "expected number": 2.5, "flip": 1, "coin": 1.5, "dice": 1.5,
        "solve": 2.5, "show your work": 3, "puzzle": 3, "riddle": 3, "logic": 2, "logical*": 2,
        "reason": 1.5, "reasoning": 1.5, "think carefully": 3, "trade-off*": 1.5,
        "tradeoff*": 1.5, "pros and cons": 2.5, "weigh": 2, "decide": 1.5, "recommendation": 1,
        "minimum number": 2, "how many": 1.5, "derive": 1, "walk me through": 2, "deduce": 3,
        "conclude": 0.7, "taller": 1.5, "shorter": 1, "older": 0.7, "definitely": 1, "if all": 2,
        "is it better": 2.5, "km": 1, "equation": 2, "integral": 2, "calculate": 2,
        "better to": 1.5, "should we": 1.5, "the cases": 1.5, "infer": 1.5, "truth": 1,
        "weighings": 2, "utility": 1, "lie": 1, "argument": 1, "hypothesis": 1,
        "what is the probability": 2, "at what time": 1,
    },
    "summarization": {
        "summar*": 4, "tl": 2, "tldr": 4, "tl;dr": 4, "condense": 4, "key takeaways": 4,
        "takeaways": 2, "takeaway*": 1, "shorten": 3.5, "recap": 4, "boil": 3, "gist": 4,
        "digest": 3, "abstract": 2, "main points": 4, "key points": 4, "bullet points": 1.5,
        "in short": 2, "highlights": 2.5, "executive summary": 2, "brief": 1,
        "in two sentences": 2.5, "in one sentence": 2.5, "paragraph": 0.7, "sum up": 4,
        "transcript": 1.5, "article": 1, "meeting notes": 1, "email thread": 1.5, "minutes": 1,
        "no time to read": 3,
    },
    "error_diagnosis": {
        "why am i getting": 3.5, "why do i get": 3.5, "i get": 1, "root cause": 3.5,
        "what causes": 2.5, "likely cause": 3, "cause": 1.5, "causes": 1, "diagnos*": 3.5,
        "stack trace": 3, "traceback": 2, "log": 0.7, "logs": 1.5, "log lines": 2,
        "exception": 1.5, "error": 1.2, "errors": 0.7, "fails": 1, "failed": 1, "failing": 1,
        "crash*": 2, "crashloopbackoff": 3, "timeout*": 1, "times out": 2,
        "segmentation fault": 3, "out of memory": 2.5, "outofmemory*": 2.5, "what happened": 2.5,
        "what is going on": 2.5, "could be wrong": 3, "error:": 1, "troubleshoot*": 3.5,
        "exit code": 2, "hang*": 1.5, "upstream": 0.7, "lag": 1, "alert": 1, "what went wrong": 3,
        "what does this mean": 1.5, "originates": 1.5, "fatal": 1.5, "panic": 2, "died": 1.5,
        "cannot connect": 2, "connection refused": 3, "econnrefused": 3, "keep going": 0.5,
        "help me find": 1, "deprecationwarning": 1.5, "usually point": 1.5, "gives error": 2,
        "gives": 0.5,
    },
    "data_interpretation": {
        "interpret*": 3, "trend*": 2.5, "outlier*": 2.5, "correlat*": 2.5, "insight*": 2.5,
        "data": 1, "dataset": 2, "these numbers": 3, "the numbers": 2.5, "figures": 1.5,
        "chart": 2, "graph": 1, "histogram": 2.5, "distribution": 1.5, "table": 0.5, "p-value": 3,
        "a/b test": 2.5, "conversion": 1.5, "churn": 1.5, "retention": 1, "cohort*": 2,
        "revenue": 1, "survey": 1, "survey results": 2, "regression output": 3, "average*": 1,
        "percentile*": 1.5, "stands out": 2, "what does the": 0.5, "conclude": 1,
        "conversion rate": 1.5, "growing": 1, "anomal*": 2, "statistic*": 2, "std": 1,
        "r-squared": 2, "metrics": 1.5, "kpi*": 1.5, "matrix": 1, "analyze the": 0.7,
        "analyse the": 0.7, "sales": 1, "what insights": 1, "columns": 0.7, "lab values": 2,
        "pattern mean": 1.5, "query result": 1.5,
    },
    "workflow_generation": {
        "workflow*": 3.5, "pipeline": 2.5, "ci": 1, "ci/cd": 3, "github actions": 3,
        "gitlab": 1.5, "airflow": 3, "dag": 3, "runbook": 3.5, "onboarding process": 3,
        "process": 1.2, "approval": 1.5, "escalation": 1.5, "step functions": 3,
        "state machine": 2, "orchestrat*": 3, "automation": 2.5, "automate": 2.5, "n8n": 3,
        "zapier": 3, "argo": 2, "bpmn*": 3, "stages": 2, "steps": 1, "ordered list": 1.5,
        "dependencies": 0.7, "checklist": 2, "hand-offs": 2, "handoffs": 2, "nightly": 1,
        "migrate": 1, "plan the": 1.5, "playbook": 3, "release process": 2.5, "sequence of": 1.5,
        "tasks": 1, "deploy": 0.7, "gates": 1.5, "owners": 1, "set up": 0.5, "define the": 0.5,
    },
    "requirement_analysis": {
        "requirement*": 3, "user stor*": 3.5, "acceptance criteria": 3.5, "acceptance test*": 3,
        "functional": 1.5, "non-functional": 2.5, "specification": 2.5, "spec": 1.5, "prd": 3,
        "epic": 2.5, "stories": 2, "stakeholder*": 2.5, "constraints": 1, "scope": 2, "moscow": 3,
        "must-have": 2.5, "edge cases": 1.5, "rfp": 3, "business rules": 3,
        "feature request*": 2.5, "open questions": 1, "ambigu*": 2.5, "contradict*": 2,
        "product owner": 2, "given/when/then": 3, "assumptions": 1.5,
        "questions should i ask": 2.5, "elicit": 2.5, "prioriti*": 1.5, "client says": 1.5,
        "gaps": 1.5, "what is missing": 1.5, "feature": 0.7, "customers want": 1.5,
        "testable": 1.5, "the customer": 0.5,
    },
    "bug_fixing": {
        "fix": 3, "fix this": 1, "fix the": 0.7, "fixes": 1, "bug": 2.5, "bugs": 1.5,
        "correct": 1.5, "correct it": 2, "corrected": 2.5, "repair": 3, "patch": 2.5, "debug": 3,
        "doesn't work": 2.5, "does not work": 2.5, "not working": 2.5, "wrong result": 3,
        "off by one": 2.5, "off-by-one": 2.5, "off by": 1.5, "should print": 2,
        "should return": 1.5, "instead of": 0.5, "endless loop": 2, "infinite loop": 2,
        "passes": 1, "fails": 0.7, "flaky": 2, "resolve this": 1.5, "merge conflict": 3,
        "skips": 1.5, "rejects": 1, "broken": 2, "memory leak": 1.5, "deadlock": 1.5,
        "find and fix": 2, "overlaps": 1, "make it work": 2.5, "change the implementation": 1.5,
        "make this": 0.5, "properly": 1, "throws": 1,
    },
    "documentation_generation": {
        "readme": 3.5, "documentation": 3, "docstring*": 4, "document this": 3.5,
        "document the": 2.5, "docs": 2.5, "jsdoc": 4, "javadoc": 4, "openapi": 2, "swagger": 2,
        "changelog": 3.5, "release notes": 3, "user manual": 4, "manual": 1, "man-page": 3,
        "man page": 3, "help text": 3, "tutorial": 3, "guide": 2, "getting-started": 3,
        "getting started": 3, "faq": 3, "wiki": 2.5, "inline comments": 3.5, "comments": 1,
        "decision record": 3, "adr": 3, "api reference": 3, "data catalog": 2.5,
        "describe each": 2.5, "usage section": 3, "help center": 2, "how to install": 2,
        "knowledge base": 2.5, "describes": 0.7, "reference": 0.7,
    },
    "general": {
        "translate": 2, "poem": 2, "joke": 2, "hello": 1.5, "capital of": 2, "recipe": 2,
        "cook": 2, "polite": 1.5, "email": 0.7, "linkedin": 2, "names for": 2, "who won": 2,
        "birthday": 2, "professional": 1, "customer who": 1,
    },
}  # fmt: skip


class Shape(NamedTuple):
    """A form of text that speaks for some tasks."""

    needs: tuple[str, ...]
    """Text without any of these has not the form: cheaper to see than by the pattern."""
    pattern: re.Pattern[str]
    gains: tuple[tuple[TaskType, float], ...]
    digits: int = 0
    """Nor has text with fewer digits."""


SHAPES: tuple[Shape, ...] = (
    Shape(
        ("diff", "@@ ", " a/", " b/"),
        re.compile(r"^(?:diff --git |@@ |```diff|[+-]{3} [ab]/)", re.MULTILINE),
        (("code_review", 2.5),),
    ),
    Shape(
        ("Traceback", "at ", "panic: ", "Caused by: ", "Exception in"),
        re.compile(
            r"Traceback \(most|^\s+at [\w.$]+\(|^panic: |^Caused by: |Exception in thread",
            re.MULTILINE,
        ),
        (("error_diagnosis", 2.5), ("bug_fixing", 0.5)),
    ),
    Shape(
        ("ERROR", "WARN", "FATAL", "Error:", "Exception:"),
        re.compile(
            r"^\S*\d\d:\d\d:\d\d\S* .{0,20}(?:ERROR|WARN|FATAL)|\b[A-Z]\w+(?:Error|Exception):"
        ),
        (("error_diagnosis", 2.0), ("bug_fixing", 0.7)),
    ),
    Shape(("<<<<<<< ",), re.compile(r"^<{7} ", re.MULTILINE), (("bug_fixing", 2.5),)),
    Shape(
        ("\n",),
        re.compile(r"^[^\n,]{1,30}(?:,[^\n,]{1,30}){2,}\n[^\n]*\d,", re.MULTILINE),
        (("data_interpretation", 2.0),),
    ),
    Shape(
        ("",),
        re.compile(r"(?:\d[\d.,]*\s?[%kM]?\b[^\d\n]{1,25}){6}"),
        (("data_interpretation", 1.5),),
        digits=6,
    ),
)
"""Forms of text, wherever they stand."""

_CODE_WORDS = (
    "def", "class", "function", "func", "public", "private", "import", "const", "let", "var",
    "return", "while", "for", "SELECT",
)  # fmt: skip
"""With which a line of code may begin."""

_CODE_MARKS = ("```", ";", "{", "}", "=> ", ":= ")
"""Text without any of these, and with none of the words at a line's beginning, is no `CODE`."""

CODE = re.compile(
    rf"```|^\s*(?:{'|'.join(_CODE_WORDS)})\b.*[:;({{=*]|[;{{}}]\s*$|=> |:= |\)\s*\{{",
    re.MULTILINE,
)
WITH_CODE: tuple[tuple[TaskType, float], ...] = (
    ("code_review", 1.0),
    ("bug_fixing", 1.0),
    ("code_generation", 0.5),
)
"""Code in the request speaks for those who work on given code, a little."""


def may_be_code(text: str) -> bool:
    """False only for what `CODE` does not match, in a tenth of the time: most prose."""
    for mark in _CODE_MARKS:
        if mark in text:
            return True
    for line in text.splitlines():  # noqa: SIM110 (any() with a generator takes twice as long)
        if line.lstrip().startswith(_CODE_WORDS):
            return True
    return False
