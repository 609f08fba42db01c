"""What losses, optimizers and full-batch methods have in common."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from .dialects import Translated


@dataclass(frozen=True, repr=False)
class Settings(Translated, dialect="optimizer"):
    """Base of objects that are nothing but what the user chose."""

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
        """The fields, without what was computed from them: also for copies and pickles."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def config(self) -> dict[str, Any]:
        """Name and fields, for a model file."""
        return {"name": self.name, **self.__getstate__()}
