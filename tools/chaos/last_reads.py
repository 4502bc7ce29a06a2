"""Reads every key once more when all is quiet, and writes it; what comes of it is one more history.

Guarantees: a key that nobody can read or write any more is noticed, whoever last asked for it. In a
cluster of the operator's the keys are deleted after that.
"""

from dataclasses import replace
from pathlib import Path

import kvstore
from tools.chaos.calls import Calls, failed
from tools.chaos.client import Recorder, open_blocking
from tools.chaos.patience import Deadline
from tools.chaos.schedule import Work
from tools.chaos.values import SIZE_MIN, Number, ValueCoder, number_of
from tools.chaos.work import Ask, key_of
from tools.history.files import HistoryWriter
from tools.history.operation import Kind

CLIENT = 0
ROUNDS = 3
"""Reads of a key, which may go to different targets."""
DEADLINE_S = 60.0
REPEAT_STRIDE = 1 << 20
"""Between the numbers of writes of one key: each that is repeated is another write."""


class LastReadError(Exception):
    """The cluster does not answer although nothing is wrong with it any more."""


def read_all(url: str, work: Work, history: Path) -> None:
    """Read and write every key; raises LastReadError when no answer comes in time."""
    deadline = Deadline(DEADLINE_S)
    calls = Calls(ValueCoder(), 1, work.size_max)
    store = open_blocking(url, lambda: deadline.over)
    if store is None:
        raise LastReadError(f"no node can be reached within {DEADLINE_S:g} s after the last fault")
    with store, HistoryWriter(history, CLIENT, "last reads") as writer:
        recorder = Recorder(writer)
        for index in range(work.keys):
            for _ in range(ROUNDS):
                ask = Ask(Kind.GET, (key_of(work, index),), (), (), True, 0.0)
                ask_until_answered(ask, calls, store, recorder, deadline)
            numbers, sizes = (number_of(CLIENT, index + 1),), (SIZE_MIN,)
            ask = Ask(Kind.SET, (key_of(work, index),), numbers, sizes, True, 0.0)
            ask_until_answered(ask, calls, store, recorder, deadline)


def remove_all(url: str, work: Work) -> None:
    """Leave none of the keys behind in a cluster of the operator's."""
    with kvstore.connect_sync(url) as store:
        store.batch_delete([key_of(work, index) for index in range(work.keys)])


def ask_until_answered(
    ask: Ask, calls: Calls, store: kvstore.Store, recorder: Recorder, deadline: Deadline
) -> None:
    """Read or write one key, again where that fails."""
    while True:
        number = recorder.begin(ask)
        try:
            value, read = calls.of(ask, store)
        except kvstore.KVStoreError as error:
            recorder.end(number, failed(ask, error))
            if deadline.over:
                raise LastReadError(f"at the end, {ask.kind} {ask.keys[0]}: {error}") from error
        else:
            recorder.end(number, read(value))
            return
        ask = replace(ask, numbers=tuple(Number(each + REPEAT_STRIDE) for each in ask.numbers))
