"""Settings: the common base of losses, optimizers and full-batch methods."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, ClassVar, TypeVar

from .dialects import Translated, explained

_C = TypeVar("_C", bound=type)


def also_called(name: str, alias: str) -> Callable[[_C], _C]:
    """Let the constructor of a class take a flag by a second name.

    The alias is no field: copies, comparisons and model files know one name only.
    """

    def with_alias(kind: _C) -> _C:
        own = explained(vars(kind)["__init__"])

        @wraps(own)
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            if alias in kwargs:
                value = kwargs.pop(alias)
                if kwargs.setdefault(name, value) != value:
                    raise ValueError(f"{name} and {alias} are two names of one flag; give one")
            own(self, *args, **kwargs)

        signature = inspect.signature(own)
        known = list(signature.parameters.values())
        flag = signature.parameters[name].replace(name=alias, kind=inspect.Parameter.KEYWORD_ONLY)
        init.__signature__ = signature.replace(parameters=[*known, flag])  # type: ignore[attr-defined]
        setattr(kind, "__init__", init)  # noqa: B010
        return kind

    return with_alias


@dataclass(frozen=True, repr=False)
class Settings(Translated, dialect="optimizer"):
    """Base of objects that hold nothing but the user's choices."""

    name: ClassVar[str]
    _always_shown: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name in self._always_shown or getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields, without values computed from them; copies and pickles use it too."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def config(self) -> dict[str, Any]:
        """Return name and fields, for a model file."""
        return {"name": self.name, **self.__getstate__()}
