from __future__ import annotations

import itertools
import multiprocessing
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.errors import InputError
from hwprof.train.corpus import StoredTokens
from hwprof.train.data import MaskedTokens, NextToken, TrainingBatches, evaluation_batches, split_windows


def _counting(count):
    return StoredTokens(np.arange(count, dtype=np.uint32))


def _batches(windows, *, micro_batch=2, workers=0, seed=0):
    return TrainingBatches(windows, micro_batch=micro_batch, workers=workers, pin_memory=False, seed=seed)


def test_targets_are_the_inputs_one_token_later():
    training, evaluation = split_windows(_counting(100), seq_len=4, task=NextToken())
    assert [part.tolist() for part in training[0]] == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert [part.tolist() for part in training[1]] == [[4, 5, 6, 7], [5, 6, 7, 8]]
    assert [part.tolist() for part in evaluation[0]] == [[95, 96, 97, 98], [96, 97, 98, 99]]


@given(count=st.integers(10, 500), seq_len=st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_no_token_is_both_trained_on_and_held_out(count, seq_len):
    tokens = _counting(count)
    if count < 2 * (seq_len + 1):
        with pytest.raises(InputError, match=f"the data has {count} tokens"):
            split_windows(tokens, seq_len=seq_len, task=NextToken())
        return
    training, evaluation = split_windows(tokens, seq_len=seq_len, task=NextToken())
    assert len(training) >= 1
    assert len(evaluation) >= 1
    assert int(training[len(training) - 1][1].max()) < int(evaluation[0][0].min())
    assert int(evaluation[len(evaluation) - 1][1].max()) < count


def test_each_round_visits_every_window_once_in_another_order():
    training, _ = split_windows(_counting(90), seq_len=4, task=NextToken())
    assert len(training) == 21
    batches = _batches(training, micro_batch=7)
    firsts = [int(row[0]) for _ in range(6) for row in next(batches)[0]]
    one, two = firsts[:21], firsts[21:]
    assert sorted(one) == sorted(two) == [4 * index for index in range(21)]
    assert one != two


@pytest.mark.parametrize("task", [NextToken(), MaskedTokens(mask_id=99, seed=5)])
def test_workers_give_the_same_batches_in_the_same_order(task):
    training, _ = split_windows(_counting(90), seq_len=8, task=task)
    alone, helped = _batches(training, seed=3), _batches(training, workers=2, seed=3)
    try:
        for _ in range(12):
            for expected, found in zip(next(alone), next(helped), strict=True):
                assert torch.equal(expected, found)
    finally:
        helped.close()


def test_another_seed_gives_another_order():
    training, _ = split_windows(_counting(900), seq_len=4, task=NextToken())
    assert not torch.equal(next(_batches(training, seed=0))[0], next(_batches(training, seed=1))[0])


def test_closing_ends_the_workers_and_may_be_repeated():
    training, _ = split_windows(_counting(90), seq_len=4, task=NextToken())
    before = set(multiprocessing.active_children())
    batches = _batches(training, workers=2)
    next(batches)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    batches.close()
    batches.close()
    assert not any(worker.is_alive() for worker in workers)


def test_evaluation_takes_the_same_first_windows_each_time():
    _, evaluation = split_windows(_counting(400), seq_len=4, task=NextToken())
    one, two = (list(evaluation_batches(evaluation, micro_batch=2, count=2)) for _ in range(2))
    assert [int(row[0]) for inputs, _ in one for row in inputs] == [380, 384, 388, 392]
    for (inputs, _), (again, _) in itertools.zip_longest(one, two):
        assert torch.equal(inputs, again)


def test_evaluation_ends_where_the_held_out_windows_end():
    _, evaluation = split_windows(_counting(100), seq_len=4, task=NextToken())
    assert len(list(evaluation_batches(evaluation, micro_batch=2, count=50))) == 1


@given(seq_len=st.integers(1, 200), index=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_masking_hides_fifteen_percent_and_asks_for_just_those(seq_len, index):
    window = torch.arange(seq_len + 1)
    inputs, targets = MaskedTokens(mask_id=7777, seed=1)(window, index)
    hidden = inputs == 7777
    assert int(hidden.sum()) == max(1, round(0.15 * seq_len))
    assert torch.equal(targets[hidden], window[:-1][hidden])
    assert bool((targets[~hidden] == -100).all())
    assert torch.equal(inputs[~hidden], window[:-1][~hidden])


def test_windows_are_masked_at_different_places():
    window = torch.arange(101)
    task = MaskedTokens(mask_id=7777, seed=1)
    assert not torch.equal(task(window, 0)[0], task(window, 1)[0])
    assert torch.equal(task(window, 1)[0], task(window, 1)[0])


_PROGRAM = """
import multiprocessing, sys, time
from multiprocessing import forkserver
import numpy as np
from hwprof.train.corpus import StoredTokens
from hwprof.train.data import NextToken, TrainingBatches, prepare_workers, split_windows
prepare_workers()
training, _ = split_windows(StoredTokens(np.arange(999, dtype=np.uint32)), seq_len=8, task=NextToken())
batches = TrainingBatches(training, micro_batch=2, workers=2, pin_memory=False, seed=0)
next(batches)
print(forkserver._forkserver._forkserver_pid, *(one.pid for one in multiprocessing.active_children()), flush=True)
time.sleep(600)
"""


def test_workers_and_the_process_that_they_come_from_die_with_a_program_that_is_killed():
    program = subprocess.Popen([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True)
    others = [psutil.Process(int(number)) for number in program.stdout.readline().split()]
    program.kill()
    program.communicate()
    assert len(others) == 3
    assert psutil.wait_procs(others, timeout=60)[1] == []
