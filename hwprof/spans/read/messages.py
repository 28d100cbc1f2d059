"""How are protobuf messages read whose schema stands in a table? With protobuf's own library, which is an extra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwprof.errors import InputError

Field = tuple[str, int, str]
"""Name, number, and type: a word of protobuf or a message; ``*`` before it where there may be many."""
_LABELS = {False: 1, True: 3}
"""FieldDescriptorProto.Label: optional, repeated."""


def decoder(messages: Mapping[str, tuple[Field, ...]], wanted: str, path: Path, expectation: str) -> Any:
    """The message ``wanted`` in a file.

    Raises:
        InputError: protobuf is not installed, or the file holds something else.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
    except ImportError as error:
        raise InputError(
            f"{path} is read with protobuf, which is not installed",
            remedy="pip install 'hwprof[protobuf]'",
        ) from error
    package = f"hwprof.{wanted.lower()}"
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        _describe(file.message_type.add(name=name), fields, package)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{wanted}"))()
    try:
        found.ParseFromString(path.read_bytes())
    except message.DecodeError as error:
        raise InputError(f"{path} can't be read: {error}", expectation=expectation) from error
    return found


def _describe(described: Any, fields: tuple[Field, ...], package: str) -> None:
    """Write the fields down; values of one kind among several (``*_value``) are one choice of protobuf's."""
    choice = [name for name, _, _ in fields if name.endswith("_value")]
    if choice:
        described.oneof_decl.add(name="value")
    for name, number, kind in fields:
        plain = kind.removeprefix("*")
        word = plain.islower() or plain.startswith(("int", "uint"))
        words = {} if word else {"type_name": f".{package}.{plain}"}
        places = {"oneof_index": 0} if name in choice else {}
        described.field.add(
            name=name,
            number=number,
            label=_LABELS[kind.startswith("*")],
            type=f"TYPE_{plain.upper()}" if word else "TYPE_MESSAGE",
            **words,
            **places,
        )
