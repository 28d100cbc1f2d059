"""What does a ``config.json`` say, and has every word of it been understood?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from hwprof.errors import SpecError
from hwprof.specs.huggingface.bookkeeping import BOOKKEEPING

Tables = dict[str, Any]
"""What a TOML file of the model would hold."""

_REMEDY = "correct the file, or describe the model in TOML: start with `hwprof specs show tiny > mine.toml`"


class UnreadKeysError(SpecError):
    """A file holds keys that no reader asked for.

    Attributes:
        keys: their names, of the file itself and of tables in it (``table.key``).
    """

    def __init__(self, fact: str, *, keys: tuple[str, ...], expectation: str, remedy: str) -> None:
        super().__init__(fact, expectation=expectation, remedy=remedy)
        self.keys = keys


class Config:
    """The keys of a ``config.json``, or of a table in it, and which of them a reader has asked for.

    A reader asks for every key that changes a count and names those that do not; ``finish`` refuses the rest, but
    only notes what holds a text. A key with null is the same as no key.
    """

    def __init__(self, values: dict[str, Any], *, path: Path, table: str = "") -> None:
        self._values = values
        self.path = path
        self._table = table
        self._read: set[str] = set()
        self.notes: list[str] = []

    @property
    def keys(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._values)

    def fail(self, fact: str, *, expectation: str = "", remedy: str = _REMEDY) -> NoReturn:
        """Refuse the file.

        Raises:
            SpecError: always.
        """
        raise SpecError(f"{self.path}: {fact}", expectation=expectation, remedy=remedy)

    def value(self, *names: str) -> Any:
        """The value of the first of these keys that is there; None where none is."""
        self._read.update(names)
        return next((self._values[name] for name in names if self._values.get(name) is not None), None)

    def is_null(self, name: str) -> bool:
        """Whether the file says null, which switches off what absence leaves to the family."""
        return name in self._values and self._values[name] is None

    def table(self, name: str) -> Config:
        """The table under a key, empty where there is none."""
        held = self.value(name)
        if not isinstance(held, dict | None):
            self._wrong(name, held, "a table")
        return Config(held or {}, path=self.path, table=f"{self._table}{name}.")

    def integer(self, *names: str, default: int | None = None, least: int = 1, most: int = 10**15) -> int:
        """A whole number from ``least`` to ``most``.

        Raises:
            SpecError: it is something else, or missing without a ``default``.
        """
        held = self.value(*names)
        if held is None:
            if default is None:
                self.fail(f"key '{self._table}{names[0]}' is missing", expectation="expected a whole number")
            return default
        if isinstance(held, bool) or not isinstance(held, int) or not least <= held <= most:
            self._wrong(names[0], held, f"a whole number from {least} to {most:g}")
        return held

    def optional_integer(self, *names: str) -> int | None:
        """A positive whole number, or None; raises as ``integer``."""
        return None if self.value(*names) is None else self.integer(*names)

    def number(self, *names: str, default: float) -> float:
        """A number that is not negative; raises as ``integer``."""
        held = self.value(*names)
        if held is None:
            return default
        if isinstance(held, bool) or not isinstance(held, int | float) or not 0 <= held < float("inf"):
            self._wrong(names[0], held, "a number, not negative")
        return float(held)

    def flag(self, *names: str, default: bool) -> bool:
        """True or false; raises as ``integer``."""
        held = self.value(*names)
        if held is None:
            return default
        if not isinstance(held, bool):
            self._wrong(names[0], held, "true or false")
        return held

    def text(self, *names: str, default: str) -> str:
        """A text; raises as ``integer``."""
        held = self.value(*names)
        if held is None:
            return default
        if not isinstance(held, str):
            self._wrong(names[0], held, "a text")
        return held

    def items(self, *names: str) -> list[Any] | None:
        """A list, or None; raises as ``integer``."""
        held = self.value(*names)
        if not isinstance(held, list | None):
            self._wrong(names[0], held, "a list")
        return held

    def only(self, name: str, *allowed: Any) -> None:
        """Read a key of which only some values, or none at all, are understood.

        Raises:
            SpecError: it has another value.
        """
        held = self.value(name)
        if held is not None and not any(held == value and type(held) is type(value) for value in allowed):
            names = " or ".join(map(repr, allowed)) or "null"
            self._wrong(name, held, f"{names}: other values change what the model costs in a way hwprof does not know")

    def harmless(self, *names: str) -> None:
        """Name keys that change no count."""
        self._read.update(names)

    def finish(self) -> None:
        """Refuse keys that no reader asked for, unless they are bookkeeping or off; note those that hold a text.

        Raises:
            SpecError: there is one; it names all.
        """
        unread = {
            name: held
            for name, held in self._values.items()
            if name not in self._read and name not in BOOKKEEPING and not name.startswith("_") and not _is_off(held)
        }
        for name in [name for name, held in unread.items() if isinstance(held, str)]:
            self.notes.append(f"Key '{self._table}{name}' is not known: {unread.pop(name)!r:.60} changes no count.")
        if unread:
            names = ", ".join(f"'{self._table}{name}'" for name in unread)
            raise UnreadKeysError(
                f"{self.path}: {'keys' if len(unread) > 1 else 'key'} {names} not understood",
                keys=tuple(f"{self._table}{name}" for name in unread),
                expectation="a key that may change what the model costs is not skipped",
                remedy="remove it from a copy if it changes no shape, or describe the model in TOML "
                "(`hwprof specs show tiny > mine.toml`)",
            )

    def _wrong(self, name: str, held: Any, expectation: str) -> NoReturn:
        self.fail(f"key '{self._table}{name}' is {held!r:.60}", expectation=f"expected {expectation}")


def _is_off(held: Any) -> bool:
    """Null, false, zero and empty turn nothing on."""
    return held is None or held is False or held in (0, "", [], {})
