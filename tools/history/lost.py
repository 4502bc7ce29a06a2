"""Whether the last read of a key shows its last acknowledged writes.

A writing operation is *final* when no acknowledged change was called after it had ended: it can be
the last one. The value that stays must be one that a final operation leaves.
"""

from collections.abc import Sequence

from tools.history.operation import Answer, Kind, Operation


def lost_write_in(operations: Sequence[Operation]) -> str | None:
    """Return what was lost by the time of the last read; None when nothing was, or nobody read."""
    reads = [
        operation
        for operation in operations
        if operation.kind is Kind.GET and operation.answer in (Answer.YES, Answer.NO)
    ]
    last = max(reads, key=lambda read: read.called, default=None)
    if last is None:
        return None
    assert last.ended is not None
    changes = [change for change in changes_of(operations) if change.called < last.ended]
    acknowledged = [change for change in changes if change.ended is not None]
    newest_call = max(
        (c.called for c in acknowledged if c.ended is not None and c.ended < last.called),
        default=-1,
    )
    if newest_call < 0:
        return None
    final = [change for change in changes if change.ended is None or change.ended >= newest_call]
    if any(leaves(change) == last.value for change in final):
        return None
    newest = max(final, key=lambda change: change.called)
    shown = "nothing" if last.value is None else f"value {last.value}"
    return f"an acknowledged write is lost: after `{newest}` the last read shows {shown}"


def changes_of(operations: Sequence[Operation]) -> list[Operation]:
    """Return the operations that changed something, or may have."""
    return [
        operation
        for operation in operations
        if operation.kind.writing and operation.answer in (Answer.YES, Answer.UNKNOWN)
    ]


def leaves(change: Operation) -> int | None:
    """Return the value that a change leaves behind."""
    return None if change.kind is Kind.DELETE else change.value
