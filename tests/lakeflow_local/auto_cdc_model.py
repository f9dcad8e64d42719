"""What AUTO CDC means, in Python: what the target of a set of events is, one key at a time.

Events are `(k, a, b, seq, op)`; rows of a history end with `__START_AT` and `__END_AT`.
"""

from __future__ import annotations

from collections import defaultdict


def genuine(events) -> dict[int, dict[int, tuple | None]]:
    """key → sequence → content, None for a delete; a delete wins where there are both."""
    found: dict[int, dict[int, tuple | None]] = defaultdict(dict)
    for k, a, b, seq, op in events:
        if op == "D" or found[k].get(seq, ()) is None:
            found[k][seq] = None
        else:
            found[k][seq] = (a, b)
    return found


def lives(timeline: dict[int, tuple | None], sparse: bool):
    """The events of one key in order; where NULLs are ignored, with what each found already there."""
    before = (None, None)
    for seq in sorted(timeline):
        content = timeline[seq]
        if content is None:
            before = (None, None)
        elif sparse:
            content = before = tuple(old if new is None else new for new, old in zip(content, before, strict=True))
        yield seq, content


def model_current(events, *, sparse=False, truncated_at=None) -> list[tuple]:
    rows = []
    for key, timeline in genuine(events).items():
        *_, (seq, content) = lives(timeline, sparse)
        if content is not None and (truncated_at is None or seq > truncated_at):
            rows.append((key, *content, seq))
    return sorted(rows, key=repr)


def model_history(events, *, tracked=(0, 1), sparse=False) -> list[tuple]:
    rows = []
    for key, timeline in genuine(events).items():
        open_row, lived, deleted = None, False, False
        for seq, content in lives(timeline, sparse):
            if content is None:
                if open_row:
                    rows.append((key, *open_row[1], open_row[0], seq))
                elif lived and deleted:
                    rows.append((key, None, None, None, seq))
                open_row = None
            elif open_row and all(open_row[1][i] == content[i] for i in tracked):
                open_row = (open_row[0], content)
            else:
                if open_row:
                    rows.append((key, *open_row[1], open_row[0], seq))
                open_row = (seq, content)
            lived, deleted = lived or content is not None, content is None
        if open_row:
            rows.append((key, *open_row[1], open_row[0], None))
    return sorted(rows, key=repr)
