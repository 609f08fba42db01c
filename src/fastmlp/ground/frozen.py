"""Settings: the common base of losses, optimizers and full-batch methods."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from .dialects import Translated


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
