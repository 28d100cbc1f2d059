"""Which tokens does a data file hold? A text or a token file, checked, and mapped into memory where it can be."""

from __future__ import annotations

import bz2
import codecs
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from hwprof.errors import InputError
from hwprof.train.bpe import encode, load_tokenizer, train_bpe

DEFAULT_TEXT = Path(__file__).parent / "texts" / "pride-and-prejudice.txt.bz2"
"""A public-domain novel that ships with the package, packed."""

BYTE_VOCABULARY = 256
_PACKED = ".bz2"
_LOOKED_THROUGH_BYTES = 8_000_000
"""Up to this size a file is looked through twice: before anything is measured, and to train."""
_CHECK_ITEMS = 1 << 24
"""Files are checked in pieces of this many items, so that one larger than memory can be."""

TokenIds = npt.NDArray[np.unsignedinteger[Any]]


class Tokens(Protocol):
    """A sequence of token ids that worker processes can be given."""

    @property
    def ids(self) -> TokenIds:
        """All token ids; unsigned integers [tokens]."""
        ...


class MappedTokens:
    """Token ids in a file, mapped into memory. Travels to worker processes as a path, not as a copy.

    Args:
        path: the file.
        dtype: type of one id; None for a ``.npy`` file, which says it itself.
    """

    def __init__(self, path: Path, dtype: str | None) -> None:
        self._path = path
        self._dtype = dtype

    def __reduce__(self) -> tuple[type[MappedTokens], tuple[Path, str | None]]:
        return MappedTokens, (self._path, self._dtype)

    @cached_property
    def ids(self) -> TokenIds:
        """All token ids, read from disk when touched."""
        if self._dtype is None:
            mapped: TokenIds = np.load(self._path, mmap_mode="r", allow_pickle=False)
            return mapped
        return np.memmap(self._path, dtype=self._dtype, mode="r")


class PackedTokens:
    """The bytes of a packed text, unpacked when touched. Travels to worker processes as a path, not as a copy."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[type[PackedTokens], tuple[Path]]:
        return PackedTokens, (self._path,)

    @cached_property
    def ids(self) -> TokenIds:
        """Its bytes."""
        with _opened(self._path) as file:
            return np.frombuffer(file.read(), dtype="u1")


class StoredTokens:
    """Token ids in memory."""

    def __init__(self, ids: TokenIds) -> None:
        self.ids = ids


def open_tokens(path: Path, *, tokenizer: str, vocab_size: int) -> Tokens:
    """The tokens of a data file.

    A file that ends in ``.npy`` holds uint16 or uint32 ids; one in ``.bin`` raw little-endian ids, uint16 where
    ``vocab_size`` is at most 65,536, else uint32. Any other file is UTF-8 text, packed where it ends in ``.bz2``.

    Args:
        path: the file.
        tokenizer: for text: ``bytes``, ``bpe:<vocabulary size>``, or the path of a Hugging Face ``tokenizer.json``.
        vocab_size: how many ids the model knows.

    Raises:
        InputError: the file is missing, unreadable, empty or not what its name says, or an id is too large.
    """
    size_bytes = _size_bytes(path)
    if path.suffix not in {".npy", ".bin"}:
        return _open_text(path, tokenizer=tokenizer, vocab_size=vocab_size)
    if tokenizer != "bytes":
        raise InputError(
            f"{str(path)!r} holds tokens, so --tokenizer {tokenizer} has nothing to do",
            remedy="leave out --tokenizer, or give a text file",
        )
    tokens = _open_npy(path) if path.suffix == ".npy" else _open_bin(path, size_bytes, vocab_size)
    _check_ids(path, tokens.ids, vocab_size)
    return tokens


def check_source(path: Path, tokenizer: str) -> None:
    """Refuse in no time what ``open_tokens`` would refuse after reading: a missing or empty file, no such tokenizer.

    Raises:
        InputError: as ``open_tokens``.
    """
    _size_bytes(path)
    if tokenizer != "bytes" and _bpe_size(tokenizer) is None:
        load_tokenizer(Path(tokenizer))


def check_length(path: Path, tokenizer: str, *, vocab_size: int, needed: int) -> None:
    """Refuse before anything is measured what has too few tokens, or others than the model has.

    A file that is read in no time is opened as for training. Of a larger one its size alone is looked at: a token has
    at least a byte.

    Raises:
        InputError: as ``open_tokens``, or there are fewer than needed.
    """
    count = _size_bytes(path)
    if count <= _LOOKED_THROUGH_BYTES:
        count = len(open_tokens(path, tokenizer=tokenizer, vocab_size=vocab_size).ids)
    if count < needed:
        raise too_short(count, needed)


def too_short(count: int, needed: int) -> InputError:
    """What is said of data with too few tokens."""
    return InputError(
        f"the data has {count} tokens",
        expectation=f"sequences of {needed // 2 - 1} need at least {needed}, half of them held out for evaluation",
        remedy="give --data a longer file, or choose a shorter --seq-len",
    )


def _size_bytes(path: Path) -> int:
    if path.exists() and not path.is_file():
        raise InputError(f"data file {str(path)!r} is no file", remedy="give --data a file with text or tokens")
    try:
        with path.open("rb"):
            size_bytes = path.stat().st_size
    except OSError as error:
        raise InputError(
            f"data file {str(path)!r} can't be read: {error.strerror}",
            remedy="give --data the path of a text file, or of a token file (.bin, .npy)",
        ) from error
    if not size_bytes:
        raise InputError(f"data file {str(path)!r} is empty", remedy="give --data a file with text or tokens")
    return size_bytes


def _open_npy(path: Path) -> MappedTokens:
    tokens = MappedTokens(path, None)
    try:
        ids = tokens.ids
    except (ValueError, EOFError) as error:
        raise InputError(f"{str(path)!r} is not a numpy array file: {error}", remedy=_HOW_TO_WRITE_IDS) from error
    if ids.dtype not in {np.dtype(np.uint16), np.dtype(np.uint32)} or ids.ndim != 1:
        raise InputError(
            f"{str(path)!r} holds {ids.dtype} of {ids.ndim} dimensions",
            expectation="expected uint16 or uint32 token ids of 1 dimension",
            remedy=_HOW_TO_WRITE_IDS,
        )
    return tokens


def _open_bin(path: Path, size_bytes: int, vocab_size: int) -> MappedTokens:
    dtype = np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")
    if size_bytes % dtype.itemsize:
        raise InputError(
            f"{str(path)!r} has {size_bytes} bytes, no multiple of {dtype.itemsize}",
            expectation=f"expected raw {dtype.name} ids for a vocabulary of {vocab_size}",
            remedy=_HOW_TO_WRITE_IDS,
        )
    return MappedTokens(path, dtype.str)


_HOW_TO_WRITE_IDS = "write it with numpy.save(path, ids.astype(numpy.uint32))"


def _check_ids(path: Path, ids: TokenIds, vocab_size: int) -> None:
    if not len(ids):
        raise InputError(f"data file {str(path)!r} holds no tokens", remedy="give --data a file with tokens")
    largest = max(int(ids[start : start + _CHECK_ITEMS].max()) for start in range(0, len(ids), _CHECK_ITEMS))
    if largest >= vocab_size:
        raise InputError(
            f"{str(path)!r} holds token id {largest}",
            expectation=f"the model's vocabulary ends at id {vocab_size - 1}",
            remedy="choose a model with that vocabulary, or tokens made for this one",
        )


def _open_text(path: Path, *, tokenizer: str, vocab_size: int) -> Tokens:
    _check_text(path)
    if tokenizer == "bytes":
        if vocab_size < BYTE_VOCABULARY:
            raise InputError(
                f"byte tokens need a vocabulary of {BYTE_VOCABULARY}, the model has {vocab_size}",
                remedy="choose a larger model, or give a token file",
            )
        return PackedTokens(path) if path.suffix == _PACKED else MappedTokens(path, "u1")
    with _opened(path) as file:
        text = file.read().decode()
    encoder = _bpe(tokenizer, text)
    ids = encode(encoder, text)
    _check_ids(path, ids, vocab_size)
    return StoredTokens(ids)


def _opened(path: Path) -> IO[bytes]:
    return bz2.open(path) if path.suffix == _PACKED else path.open("rb")


def _bpe(tokenizer: str, text: str) -> Any:
    size = _bpe_size(tokenizer)
    return load_tokenizer(Path(tokenizer)) if size is None else train_bpe(text, size)


def _bpe_size(tokenizer: str) -> int | None:
    """The vocabulary of ``bpe:<size>``; None for any other tokenizer."""
    kind, _, size = tokenizer.partition(":")
    if kind != "bpe":
        return None
    if not size.isdecimal():
        raise InputError(
            f"{tokenizer!r} is not a tokenizer", expectation="expected for example bpe:4096", remedy="check --tokenizer"
        )
    return int(size)


def _check_text(path: Path) -> None:
    try:
        _check_utf8(path)
    except (OSError, EOFError) as error:
        raise InputError(f"{str(path)!r} can't be unpacked: {error}", remedy="pack it again with bzip2") from error


def _check_utf8(path: Path) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    done_bytes = 0
    with _opened(path) as file:
        while chunk := file.read(_CHECK_ITEMS):
            if b"\0" in chunk:
                raise _not_text(path, done_bytes + chunk.index(b"\0"), "a zero byte")
            pending_bytes = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise _not_text(path, done_bytes - pending_bytes + error.start, "invalid UTF-8") from error
            done_bytes += len(chunk)
    pending_bytes = len(decoder.getstate()[0])
    if pending_bytes:
        raise _not_text(path, done_bytes - pending_bytes, "invalid UTF-8")


def _not_text(path: Path, position_bytes: int, what: str) -> InputError:
    return InputError(
        f"{str(path)!r} is not text: {what} at byte {position_bytes}",
        expectation="expected UTF-8 text, or token ids in a file that ends in .bin or .npy",
        remedy="convert it to UTF-8, or rename the token file",
    )
