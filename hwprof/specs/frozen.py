"""What do all nouns that come from a file or go to one share? They are frozen, and an unknown key is an error."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict

CHANGED = {"changed": True}
"""Context of a validation whose values are those of a record, not the text of a file."""


class Record(BaseModel):
    """A frozen, schema-checked value; a loss that is no number is written to JSON as the string ``"NaN"``."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        ser_json_inf_nan="strings",
        defer_build=True,  # a light command needs few of the records; the others cost it no time
    )

    def changed(self, **fields: Any) -> Self:
        """The same record with other values in ``fields``, checked like any other: pydantic's own copy checks nothing.

        Raises:
            ValidationError: a field that the record has not, or a value that it does not take.
        """
        values = {name: getattr(self, name) for name in self.model_fields_set} | fields
        known = type(self).model_fields
        written = {(known[name].alias or name) if name in known else name: value for name, value in values.items()}
        return type(self).model_validate(written, context=CHANGED)


def default_of(record: type[Record], field: str) -> Any:
    """The value of a field that is not given; what asks for the same thing has the same default."""
    return record.model_fields[field].default
