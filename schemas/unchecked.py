"""Making models of what is known to be right, at a fraction of what checking costs.

Most models are made of parts that were checked when they were read, and of constants of our own:
checking them once more is the dearest part of making them. What comes from outside (a topic, a
provider, a user, a file) is never made this way.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from millrace.schemas.record import Frozen

P = ParamSpec("P")
M = TypeVar("M", bound=Frozen)

_set = object.__setattr__


def unchecked(model: Callable[P, M]) -> Callable[P, M]:
    """Give a function that makes this model as its constructor does, without looking at values.

    The type checker sees the constructor's own parameters. Values must be what the constructor
    would store: all required ones, under the fields' names, converted already (a tuple for a
    tuple, times in UTC), as no validator runs.

    Raises:
        TypeError: It is no model.
    """
    if not (isinstance(model, type) and issubclass(model, Frozen)):
        raise TypeError(f"{model!r} is not a model")
    made: type[Frozen] = model
    fields = made.model_fields
    new, names = object.__new__, set(fields)
    # In the fields' order, which is that of the JSON.
    template = {name: field.default for name, field in fields.items()}
    factories: dict[str, Callable[[], Any]] = {
        name: field.default_factory  # type: ignore[misc]
        for name, field in fields.items()
        if field.default_factory is not None
    }

    def make(**values: Any) -> Any:
        for name, factory in factories.items():
            if name not in values:
                values[name] = factory()
        instance = new(made)
        _set(instance, "__dict__", template | values)
        _set(instance, "__pydantic_fields_set__", names)
        _set(instance, "__pydantic_extra__", None)
        _set(instance, "__pydantic_private__", None)
        return instance

    return cast("Callable[P, M]", make)
