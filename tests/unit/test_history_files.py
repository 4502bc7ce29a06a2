"""The files of histories."""

from pathlib import Path

import pytest

from tools.history.__main__ import files_of, self_test
from tools.history.files import HistoryError, HistoryWriter, read_history
from tools.history.operation import GONE, Answer, Kind, Operation


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "1.history"
    with HistoryWriter(path, 3, "blocking") as writer:
        first = writer.begin(10, Kind.SET, ["a", "b"], [1, 2])
        second = writer.begin(11, Kind.GET, ["a", "b"], [])
        writer.end(second, 12, [Answer.YES, Answer.NO], [1, None])
        writer.end(first, 13, [Answer.YES, Answer.UNKNOWN], error="KVTimeoutError")

    assert [
        Operation(3, Kind.GET, "a", 1, 11, 12, Answer.YES),
        Operation(3, Kind.GET, "b", None, 11, 12, Answer.NO),
        Operation(3, Kind.SET, "a", 1, 10, 13, Answer.YES),
        Operation(3, Kind.SET, "b", 2, 10, None, Answer.UNKNOWN, "KVTimeoutError"),
    ] == list(read_history(path))


def test_what_a_killed_client_had_begun_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "1.history"
    with HistoryWriter(path, 3, "blocking") as writer:
        writer.begin(10, Kind.DELETE, ["a"], [])
    with path.open("ab") as file:
        file.write(b'["end",1,12,"')

    assert [Operation(3, Kind.DELETE, "a", None, 10, None, Answer.UNKNOWN, GONE)] == list(
        read_history(path)
    )


def test_a_line_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.history"
    path.write_text('{"history": 1, "client": 3}\n["end", 1, 12, "y", [], ""]\n')

    with pytest.raises(HistoryError, match=r"1\.history:2"):
        list(read_history(path))


def test_a_folder_stands_for_its_histories(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="no file"):
        files_of([tmp_path])

    (tmp_path / "2.history").touch()

    assert [tmp_path / "2.history"] == files_of([tmp_path])


def test_the_self_test_finds_what_it_plants() -> None:
    assert 0 == self_test()
