"""How does text become byte-pair tokens? Through the optional ``tokenizers`` library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hwprof.errors import InputError
from hwprof.specs.reading import content_of

SMALLEST_VOCABULARY = 256
"""Every byte is a token before the first merge."""

_CHUNK_CHARACTERS = 1 << 20
"""Text is encoded in pieces of about this size, cut at line ends, to bound the library's working memory."""


def train_bpe(text: str, vocabulary: int) -> Any:
    """A byte-level BPE ``tokenizers.Tokenizer`` of at most ``vocabulary`` tokens, learned from ``text``.

    Raises:
        InputError: the ``tokenizers`` library is missing, or the vocabulary has no room for the 256 bytes.
    """
    if vocabulary < SMALLEST_VOCABULARY:
        raise InputError(
            f"a BPE vocabulary of {vocabulary} is too small",
            expectation=f"expected at least {SMALLEST_VOCABULARY}, one for each byte",
            remedy="choose for example --tokenizer bpe:4096",
        )
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_chunks(text), trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Any:
    """The ``tokenizers.Tokenizer`` of a Hugging Face ``tokenizer.json``.

    Raises:
        InputError: the library is missing, or the file is no tokenizer.
    """
    library = _library()
    content = content_of(path, remedy="give --tokenizer bytes, bpe:<vocabulary size> or a Hugging Face tokenizer.json")
    try:
        tokenizer = library.Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises bare Exception for every bad file
        raise InputError(
            f"{str(path)!r} is not a Hugging Face tokenizer.json: {error}",
            remedy="give the tokenizer.json that belongs to the model, or --tokenizer bytes",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(tokenizer: Any, text: str) -> npt.NDArray[np.uint32]:
    """Token ids of the whole text, no special tokens added; uint32 [tokens]."""
    pieces = [
        np.asarray(tokenizer.encode(chunk, add_special_tokens=False).ids, dtype=np.uint32) for chunk in _chunks(text)
    ]
    return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.uint32)


def _chunks(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        line_end = text.find("\n", start + _CHUNK_CHARACTERS)
        stop = len(text) if line_end < 0 else line_end + 1
        yield text[start:stop]
        start = stop


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise InputError(
            "BPE tokens need the 'tokenizers' library, which is not installed",
            remedy="pip install hwprof[bpe], or use --tokenizer bytes",
        ) from error
    return tokenizers
