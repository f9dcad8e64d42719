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


def whole(events) -> list[tuple]:
    """Events `(k, columns, a, b, seq, op)` as those that write all: what a change does not name is as it was."""
    timelines: dict[int, dict[int, tuple | None]] = defaultdict(dict)
    for k, names, a, b, seq, op in events:
        if op == "D" or timelines[k].get(seq, ()) is None:
            timelines[k][seq] = None
        else:
            timelines[k][seq] = (names, (a, b))
    found = []
    for k, timeline in timelines.items():
        before = (None, None)
        for seq in sorted(timeline):
            if timeline[seq] is None:
                before = (None, None)
                found.append((k, None, None, seq, "D"))
                continue
            names, content = timeline[seq]
            named = [names is None or column in names for column in ("a", "b")]
            before = tuple(new if n else old for n, new, old in zip(named, content, before, strict=True))
            found.append((k, *before, seq, "U"))
    return found


def model_beliefs(events) -> list[tuple]:
    """Of events `(k, system, a, b, seq, op)`: rows of histories, with the system times in which they hold."""
    rows = []
    for key in {event[0] for event in events}:
        own = [event for event in events if event[0] == key]
        moments = sorted({event[1] for event in own})
        held: dict[tuple, int] = {}
        for moment in moments:
            last: dict[int, int] = {}
            for _, system, _, _, seq, _ in own:
                if system <= moment:
                    last[seq] = max(system, last.get(seq, system))
            known = [(k, *rest) for k, system, *rest in own if last.get(rest[2]) == system]
            history = set(model_history(known))
            rows += [(*row, held.pop(row), moment) for row in [*held] if row not in history]
            held |= {row: moment for row in history if row not in held}
        rows += [(*row, since, None) for row, since in held.items()]
    return sorted(rows, key=repr)


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
