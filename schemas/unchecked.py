"""Making models of what is known to be right, at a fraction of what checking costs.

Most models are made of parts that were checked when they were read, and of constants of our own:
checking them once more is the dearest part of making them. What comes from outside (a topic, a
provider, a user, a file) is never made this way.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from pydantic import BaseModel

from millrace.schemas.record import Frozen

P = ParamSpec("P")
M = TypeVar("M", bound=Frozen)

# The slots of a model, set without the checks of a frozen one.
_slots = BaseModel.__dict__
_set_values = _slots["__dict__"].__set__
_set_told = _slots["__pydantic_fields_set__"].__set__
_set_extra = _slots["__pydantic_extra__"].__set__
_set_private = _slots["__pydantic_private__"].__set__


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
        _set_values(instance, template | values)
        _set_told(instance, names)
        _set_extra(instance, None)
        _set_private(instance, None)
        return instance

    return cast("Callable[P, M]", make)


def changed(model: M, **values: Any) -> M:
    """Give the model with other values, as its `model_copy` does in twice the time.

    Nothing looks at these values either: they must be what the constructor would store.
    """
    instance = object.__new__(type(model))
    _set_values(instance, model.__dict__ | values)
    _set_told(instance, model.__pydantic_fields_set__)
    _set_extra(instance, None)
    _set_private(instance, None)
    return instance
