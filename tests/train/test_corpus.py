from __future__ import annotations

import bz2
import pickle
import sys

import numpy as np
import pytest

from hwprof.errors import InputError
from hwprof.train.bpe import encode, load_tokenizer, train_bpe
from hwprof.train.corpus import DEFAULT_TEXT, MappedTokens, PackedTokens, open_tokens

_TEXT = "Ein Käse, two cheeses.\nLine two — with signs: µ, 漢字.\n" * 20


def _open(path, *, tokenizer="bytes", vocab_size=256):
    return open_tokens(path, tokenizer=tokenizer, vocab_size=vocab_size)


def _fault(path, **options):
    with pytest.raises(InputError) as caught:
        _open(path, **options)
    return str(caught.value)


def test_shipped_text_is_the_whole_novel_and_nothing_else():
    text = bz2.decompress(DEFAULT_TEXT.read_bytes())
    assert len(text) == 684_768
    assert text.isascii()
    assert text.startswith(b"PRIDE AND PREJUDICE\n\nBy Jane Austen\n")
    assert text.rstrip().endswith(b"had been the means of uniting them.")
    assert text.count(b"\nChapter ") == 61
    assert b"gutenberg" not in text.lower()


def test_byte_tokens_turn_back_into_the_text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(_TEXT, encoding="utf-8")
    assert _open(path).ids.tobytes().decode() == _TEXT


@pytest.mark.parametrize(("vocab_size", "dtype"), [(50_257, "<u2"), (65_536, "<u2"), (65_537, "<u4")])
def test_raw_token_file_is_read_in_the_width_that_its_vocabulary_needs(vocab_size, dtype, tmp_path):
    path = tmp_path / "tokens.bin"
    np.array([5, 0, 50_000, 7], dtype=dtype).tofile(path)
    assert _open(path, vocab_size=vocab_size).ids.tolist() == [5, 0, 50_000, 7]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_numpy_token_file_is_mapped_and_not_read(dtype, tmp_path):
    path = tmp_path / "tokens.npy"
    np.save(path, np.array([5, 0, 255, 7], dtype=dtype))
    tokens = _open(path)
    assert isinstance(tokens.ids, np.memmap)
    assert tokens.ids.tolist() == [5, 0, 255, 7]


@pytest.mark.parametrize("kind", [MappedTokens, PackedTokens])
def test_tokens_of_a_file_travel_to_workers_as_a_path(kind, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(bz2.decompress(DEFAULT_TEXT.read_bytes()))
    tokens = _open(path if kind is MappedTokens else DEFAULT_TEXT)
    packed = pickle.dumps(tokens)
    assert len(packed) < 1000
    copy = pickle.loads(packed)
    assert isinstance(copy, kind)
    assert len(copy.ids) == 684_768
    assert np.array_equal(copy.ids, tokens.ids)


def test_missing_file_is_named(tmp_path):
    assert "absent.txt' can't be read: No such file or directory" in _fault(tmp_path / "absent.txt")


def test_folder_is_no_data_file(tmp_path):
    assert "is no file" in _fault(tmp_path)


@pytest.mark.parametrize("name", ["empty.txt", "empty.bin", "empty.npy"])
def test_empty_file_is_called_empty(name, tmp_path):
    (tmp_path / name).touch()
    assert "is empty" in _fault(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"good text, then \xff\xfe", "invalid UTF-8 at byte 16"),
        (b"ends inside a letter \xc3", "invalid UTF-8 at byte 21"),
        (b"a \0 inside", "a zero byte at byte 2"),
    ],
)
def test_binary_given_as_text_is_refused_with_its_place(content, reason, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    assert reason in _fault(path)


@pytest.mark.parametrize("check_items", [1, 2, 3, 5])
def test_letters_cut_by_the_check_are_still_text(check_items, tmp_path, monkeypatch):
    monkeypatch.setattr("hwprof.train.corpus._CHECK_ITEMS", check_items)
    path = tmp_path / "text.txt"
    path.write_text("aä漢b", encoding="utf-8")  # letters of 1, 2, 3 and 1 bytes
    assert len(_open(path).ids) == 7
    path.write_bytes("aä漢b".encode() + b"\x80")
    assert "invalid UTF-8 at byte 7" in _fault(path)


def test_too_large_id_is_named(tmp_path):
    path = tmp_path / "tokens.npy"
    np.save(path, np.array([5, 32_000, 7], dtype=np.uint32))
    fault = _fault(path, vocab_size=32_000)
    assert "holds token id 32000" in fault
    assert "ends at id 31999" in fault


def test_odd_raw_token_file_is_refused(tmp_path):
    path = tmp_path / "tokens.bin"
    path.write_bytes(b"\1\0\2")
    assert "has 3 bytes, no multiple of 2" in _fault(path)


@pytest.mark.parametrize("array", [np.zeros(4, dtype=np.int64), np.zeros((2, 2), dtype=np.uint16)])
def test_numpy_file_of_another_kind_is_refused(array, tmp_path):
    path = tmp_path / "tokens.npy"
    np.save(path, array)
    assert f"holds {array.dtype} of {array.ndim} dimensions" in _fault(path)


def test_numpy_file_without_tokens_is_refused(tmp_path):
    path = tmp_path / "tokens.npy"
    np.save(path, np.zeros(0, dtype=np.uint16))
    assert "holds no tokens" in _fault(path)


@pytest.mark.parametrize("content", [b"\x93NUMPY", b"just text", b"\x80\x04]\x94."])
def test_corrupt_numpy_file_is_refused(content, tmp_path):
    path = tmp_path / "tokens.npy"
    path.write_bytes(content)
    assert "is not a numpy array file" in _fault(path)


def test_byte_tokens_need_256_ids():
    assert "byte tokens need a vocabulary of 256, the model has 100" in _fault(DEFAULT_TEXT, vocab_size=100)


def test_token_file_takes_no_tokenizer(tmp_path):
    path = tmp_path / "tokens.bin"
    path.write_bytes(b"\1\0")
    assert "--tokenizer bpe:300 has nothing to do" in _fault(path, tokenizer="bpe:300")


def test_bpe_tokens_turn_back_into_the_text():
    tokenizer = train_bpe(_TEXT, 300)
    ids = encode(tokenizer, _TEXT)
    assert tokenizer.decode(ids.tolist()) == _TEXT
    assert len(ids) < len(_TEXT.encode())


def test_bpe_in_pieces_still_turns_back_into_the_text(monkeypatch):
    monkeypatch.setattr("hwprof.train.bpe._CHUNK_CHARACTERS", 40)
    tokenizer = train_bpe(_TEXT, 300)
    assert tokenizer.decode(encode(tokenizer, _TEXT).tolist()) == _TEXT


def test_bpe_learned_from_the_data_has_the_asked_vocabulary(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(_TEXT, encoding="utf-8")
    ids = _open(path, tokenizer="bpe:290", vocab_size=290).ids
    assert ids.max() < 290
    assert (ids >= 256).any()
    assert "the model's vocabulary ends at id 279" in _fault(path, tokenizer="bpe:290", vocab_size=280)


def test_tokenizer_file_gives_the_tokens_that_it_was_trained_to_give(tmp_path):
    trained = train_bpe(_TEXT, 300)
    trained.enable_truncation(4)  # as released tokenizers carry it; it must not cut the corpus
    trained.save(str(tmp_path / "tokenizer.json"))
    ids = encode(load_tokenizer(tmp_path / "tokenizer.json"), _TEXT)
    assert trained.decode(ids.tolist()) == _TEXT


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        ("bpe:", "'bpe:' is not a tokenizer"),
        ("bpe:many", "'bpe:many' is not a tokenizer"),
        ("bpe:100", "a BPE vocabulary of 100 is too small"),
        ("absent.json", "absent.json does not exist; give --tokenizer bytes"),
    ],
)
def test_wrong_tokenizer_is_refused(tokenizer, reason, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(_TEXT, encoding="utf-8")
    assert reason in _fault(path, tokenizer=tokenizer)


def test_corrupt_tokenizer_file_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(InputError, match=r"is not a Hugging Face tokenizer\.json"):
        load_tokenizer(path)


def test_missing_bpe_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"pip install hwprof\[bpe\]"):
        train_bpe(_TEXT, 300)


def test_a_damaged_packed_text_says_so(tmp_path):
    path = tmp_path / "text.txt.bz2"
    path.write_bytes(DEFAULT_TEXT.read_bytes()[:5000])
    assert "can't be unpacked" in _fault(path)
