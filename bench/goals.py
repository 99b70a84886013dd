"""Telling whether a goal was met."""


def judge(what: str, found: float, goal: float, *, at_least: bool = True) -> bool:
    """Print what was found beside its goal; returns whether it was met."""
    met = found >= goal if at_least else found <= goal
    bound = "at least" if at_least else "at most"
    print(f"{'met   ' if met else 'MISSED'} {what}: {found:.2f}, goal {bound} {goal}")
    return met
