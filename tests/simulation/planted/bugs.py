"""Bugs to plant: each breaks one rule of the protocol by an edit of the product's code."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["BUGS", "CONTROL", "PACKAGE", "Bug", "Edit"]

PACKAGE = Path(__file__).parents[3] / "stabilize_celery"


@dataclass(frozen=True, slots=True)
class Edit:
    """A piece of a file that stands there once, and what takes its place."""

    file: str
    old: str
    new: str

    def source(self) -> str:
        """Return the file as it is."""
        return (PACKAGE / self.file).read_text()


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug.

    Args:
        name: What is wrong, in words.
        room: The part of the protocol that it breaks.
        edits: How.

    """

    name: str
    room: str
    edits: tuple[Edit, ...]


def _bug(room: str, name: str, file: str, old: str, new: str) -> Bug:
    return Bug(name, room, (Edit(file, old, new),))


_HANDLER = "engine/handler.py"
_RUN_TASK = "engine/handlers/run_task.py"
_SETTLE = "engine/handlers/settle_workflow.py"
_RESULTS = "engine/results.py"
_LOCKS = "engine/locks.py"
_PREPARED = "runtime/prepared.py"
_SESSIONS = "runtime/sessions.py"
_UNIT = "runtime/unit.py"
_TAKING = "transport/taking.py"
_FOLLOWING = "engine/following.py"
_KEEPER = "runtime/keeper.py"
_VERDICTS = "runtime/verdicts.py"
_LEASES = "runtime/leases.py"

_UNIT_OF_WORK = (
    ("a duplicate is handled again", _HANDLER, "    if not entry.exists:\n", "    if False:\n"),
    ("what has ended is handled all the same", _HANDLER, "if not workflow.is_live and", "if False and"),
    ("the own entry stays", _PREPARED, "if own is not None and (own in decision.forgets or not", "if False and (not"),
    (
        "what follows is published, but not owed",
        _PREPARED,
        "ledger.append(_entry(owed, queue, now_ms, looked_at_ms, settings.republish_ms))",
        "_entry(owed, queue, now_ms, looked_at_ms, settings.republish_ms)",
    ),
    (
        "what is owed has no time at which somebody looks",
        "store/changes.py",
        '        commands.append(("ZADD", due, *moved))',
        '        commands.append(("ZADD", due, "XX", *moved))',
    ),
)
_CLAIMS = (
    (
        "another's claim is ignored",
        _RUN_TASK,
        '    if entry.own:\n        return nothing(f"claimed by {entry.own}")\n    if entry.lost',
        "    if entry.lost",
    ),
    (
        "a claim keeps the attempt",
        _RUN_TASK,
        "own=terms.owner, att=entry.att + 1,",
        "own=terms.owner, att=entry.att or 1,",
    ),
    (
        "the attempt of a result is not compared",
        _RESULTS,
        '    if entry.att != returned.attempt:\n        return nothing(f"attempt',
        '    if False:\n        return nothing(f"attempt',
    ),
    (
        "a poll keeps the attempt",
        _RESULTS,
        "ENTRY.encode(att=entry.att + 1, lost=0, nb=at_ms, pub=0)",
        "ENTRY.encode(att=entry.att, lost=0, nb=at_ms, pub=0)",
    ),
    (
        "a poll keeps the claim",
        _RESULTS,
        '    decision = Decision(keeps_entry=True, note=f"{returned.status}: again in {returned.again_after_ms} ms")\n    key = places.ledger(message.name)\n    decision.change(DeleteFields(key, ("own",)))\n',
        '    decision = Decision(keeps_entry=True, note=f"{returned.status}: again in {returned.again_after_ms} ms")\n    key = places.ledger(message.name)\n',
    ),
)
_KEEPING = (
    (
        "reaping does not watch the entry",
        _KEEPER,
        "snapshot = session.read((*hashes, look), tuple(query.key for query in hashes))",
        "snapshot = session.read((*hashes, look), ())",
    ),
    (
        "the lease of a lost worker never ends",
        _VERDICTS,
        "(bool(entry.own), Doing.REAP)",
        "(bool(entry.own), Doing.LOOK_LATER)",
    ),
    (
        "a keeper that was cut off takes claims at once",
        _KEEPER,
        "contact.vouches_from_ms, counts_from_ms)",
        "0, counts_from_ms)",
    ),
    ("a lost claim is spared whenever a keeper is new", _VERDICTS, " and found.due_ms != entry.spared", ""),
    (
        "what a body says that was stopped for its lost claim counts",
        "engine/results.py",
        "is_given_away = returned.is_disowned and",
        "is_given_away = False and",
    ),
    ("a live worker's lease is not extended", _LEASES, "for claim in ours]\n", "for claim in list(ours)[:0]]\n"),
    (
        "a lost message is not published again",
        _VERDICTS,
        "entry.sent + CLOCK_COVER_MS, Doing.AGAIN)",
        "entry.sent + CLOCK_COVER_MS, Doing.LOOK_LATER)",
    ),
    (
        "a message that was never published is taken for one",
        _VERDICTS,
        "(entry.pub == 0 or entry.pub < entry.nb, Doing.PUBLISH)",
        "(False, Doing.PUBLISH)",
    ),
)
_NAMES = (
    (
        "two firings of a join have one name",
        "engine/joins.py",
        "token = thread_id(plan.ref, firing.number)",
        "token = thread_id(plan.ref)",
    ),
    (
        "each pass of a loop has the name of the first",
        "engine/completion.py",
        'thread_id(frame.thread, "jump", target)',
        'thread_id("jump", target)',
    ),
    (
        "threads of one split share a name",
        "engine/routes.py",
        "token = thread_id(frame.thread, edge.target, number)",
        "token = thread_id(frame.thread, edge.target)",
    ),
)
_FLOW = (
    ("nobody is owed to judge a standstill", "engine/moves.py", "    if moves < 0:\n", "    if moves < -1:\n"),
    (
        "arrivals are not counted as used",
        "engine/joins.py",
        '{f"u{edge}": count for edge, count in place.used.items()}',
        "{}",
    ),
    (
        "a standstill ends over waiting arrivals",
        _SETTLE,
        "    if not held and not any(any(place.waiting.values()) for place in waiting.places.values()):",
        "    if True:",
    ),
    (
        "the end does not look at what moves",
        _SETTLE,
        '    if int(snapshot[_COUNTERS].get("act", b"0")) > 0:',
        "    if False:",
    ),
    (
        "an instance's end is counted outside its commit",
        "engine/handlers/complete_stage.py",
        "    count = decision.change(Increment(places.instance_counts(run.parent), kind, 1))\n",
        "    count = decision.change(Increment(places.instance_counts(run.parent), kind, 0))\n",
    ),
)
_LOCKING = (
    (
        "a lock's holders and line are not watched",
        _LOCKS,
        'snapshot = yield Read((HOLDERS, window, META), ("h", WAITERS), lock_slot(lock))',
        "snapshot = yield Read((HOLDERS, window, META), (), lock_slot(lock))",
    ),
    (
        "the fencing token begins again",
        _LOCKS,
        "granted[waiter] = max(view.last + 1, view.now_us) + len(granted)",
        "granted[waiter] = 1 + len(granted)",
    ),
    ("who comes later passes the line", _LOCKS, "line = [*view.first, me] if", "line = [me, *view.first] if"),
    (
        "the limit is not looked at",
        _LOCKS,
        "        if len(view.holders) + len(granted) >= lowest:\n",
        "        if False:\n",
    ),
    (
        "a release does not hand over",
        _LOCKS,
        "    granted = _pump(decision, rest, rest.first)\n",
        "    granted: dict[str, int] = {}\n",
    ),
    (
        "a run's end does not give its lock back",
        "engine/endings.py",
        '    release_lock(decision, frame)\n    return {"lock": "done"}\n',
        '    return {"lock": "done"}\n',
    ),
)
_OUTSIDE = (
    ("a kept signal is used twice", _RESULTS, "    rest.remove(taken)\n", ""),
    (
        "who waits for a signal does not watch the box",
        _RESULTS,
        "    waiting = yield Read((Hash(box_key), position), (box_key,))\n",
        "    waiting = yield Read((Hash(box_key), position), ())\n",
    ),
    ("a parked message is lost", _HANDLER, "    parked.change(Add(places.PARKED, (message.name,)))\n", ""),
    (
        "resuming owes nothing to what was parked",
        "engine/outside.py",
        "    decision.owes.append(Owed(ResumeParked(workflow_id=workflow_id)))\n",
        "",
    ),
    (
        "creation does not watch for a twin",
        "runtime/submission.py",
        "    snapshot = yield Read((key,), (places.WORKFLOW,))\n",
        "    snapshot = yield Read((key,), ())\n",
    ),
    (
        "creation does not look for a twin",
        "runtime/submission.py",
        "    if record.status:\n        return Decision(keeps_entry=True, call=record.digest)\n",
        "",
    ),
)
_INNER = (
    (
        "a child is created without a look",
        "engine/handlers/start_sub_workflow.py",
        "    if not there.hash(places.WORKFLOW):\n",
        "    if True:\n",
    ),
    (
        "a child's end is not told to its caller",
        "engine/handlers/notify_parent.py",
        "        yield Commit(Decision(keeps_entry=True, owes=[Owed(done)]), slot)\n",
        "        del done\n",
    ),
    (
        "no tombstone for a child that is not there yet",
        "engine/handlers/cancel_sub_workflow.py",
        "        yield Commit(decision, slot)\n    elif",
        "        del slot\n    elif",
    ),
    (
        "a child's caller does not end it",
        "engine/endings.py",
        "    if run.child and run.sub is None:\n",
        "    if False:\n",
    ),
)
_SHARING = (
    (
        "a probe that came back through another lane counts",
        _VERDICTS,
        "(came_back.get(entry.q, 0) > entry.sent",
        '(max((at for lane, at in came_back.items() if lane.partition("\\x06")[0] == entry.q.partition("\\x06")[0]), default=0) > entry.sent',
    ),
    (
        "a probe tells of the queue's first lane, whichever it was sent through",
        "runtime/probes.py",
        '{"queue": queue, "sent_ms": now_ms}',
        '{"queue": queue.partition("\x06")[0], "sent_ms": now_ms}',
    ),
    (
        "a wide workflow does not let others pass",
        "runtime/lanes.py",
        "priority if before < BURST else priority + _STEP",
        "priority",
    ),
    (
        "what ends work waits like what begins it",
        "runtime/lanes.py",
        "if message.ends_work and self.workflow >= _STEP:",
        "if False:",
    ),
    (
        "a branch of many comes to the front with the end of its first stage",
        "runtime/lanes.py",
        "Urgency(priority, step + _STEP if is_before else step)",
        "Urgency(priority, step)",
    ),
    (
        "what is read ahead again has the session of the first time",
        _SESSIONS,
        "        self.of(slot)  # the one that was open may have gone over to a message that nobody took\n",
        "",
    ),
    (
        "the end that a commit turns out to owe is taken and not sent",
        _UNIT,
        "sessions.commit_last(slot, Transaction(posts=posts), [one.message for one in due])",
        "sessions.commit_last(slot, Transaction(), [one.message for one in due])",
    ),
    (
        "what several decisions owe together is not written",
        "runtime/draft.py",
        "ledger = [change for changes in self._ledger.values() for change in changes]",
        "ledger = [one for changes in self._ledger.values() for one in changes if type(one) is not Put]",
    ),
    (
        "a look at a join that lost its first try is left to the keeper",
        "engine/handlers/evaluate_join.py",
        "        if not (decision.is_empty and decision.keeps_entry):\n            return decision\n",
        "        return decision\n",
    ),
    (
        "what was read before a WATCH began is taken for true",
        "runtime/draft.py",
        "stale = {query.key for query in queries}.difference(self._watched).union(unread) if unread else _NONE",
        "stale = frozenset(unread)",
    ),
    (
        "what was read of a key before its WATCH began is taken for true later",
        "runtime/draft.py",
        "stale = {query.key for query in queries}.difference(self._watched).union(unread) if unread else _NONE",
        "stale = {query.key for query in queries}.difference(self._watched) if unread else _NONE",
    ),
    (
        "a draft tells a counter that others may change",
        "runtime/draft.py",
        "        if key in self._watched and key in self._hashes:\n            return int",
        "        if key in self._hashes:\n            return int",
    ),
    (
        "the end of a workflow is judged by counters that are not WATCHed",
        "engine/handlers/settle_workflow.py",
        "watch = [places.COUNTERS, places.FAILURES, places.LIVE]",
        "watch = [places.FAILURES, places.LIVE]",
    ),
    (
        "a record in a draft stays as it was when fields of its hash are deleted",
        "runtime/draft.py",
        "record = self._records.pop(key, None)",
        "record = self._records.get(key)",
    ),
    (
        "a process does not go on with the task that it kept",
        "runtime/attempts.py",
        "return decision.note or returned.status, going_on.following(kept) if going_on is not None else None",
        "return decision.note or returned.status, None",
    ),
    (
        "the lease of a task that a process goes on with is not extended",
        "transport/upkeep.py",
        "going = self._turns.all() if self._turns is not None else []",
        "going: list[Attempt] = []",
    ),
    (
        "what a commit sends itself is not owed",
        _UNIT,
        "return Prepared(msgspec.structs.replace(prepared.transaction, posts=posts), rest, riding)",
        "kept = [one for one in prepared.transaction.ledger if not isinstance(one, Put)]\n        return Prepared(msgspec.structs.replace(prepared.transaction, posts=posts, ledger=kept), rest, riding)",
    ),
    (
        "what was taken is dropped when its turn is called back",
        _TAKING,
        "            if message is None or turn.was_called_back():\n                self._return(lane, text)\n",
        "            if message is None or turn.was_called_back():\n",
    ),
    (
        "a delivery takes more than one message",
        "runtime/next_message.py",
        "        if self.taken is not None:\n            return None\n        self._take",
        "        self._take",
    ),
    (
        "a task is gone on with though the next message was taken",
        "runtime/fusion.py",
        "going_on if kept is None and not has_next() else None",
        "going_on if kept is None else None",
    ),
    (
        "what is read ahead for the next message is not watched",
        _SESSIONS,
        "session.commit_and_read(transaction, read.queries, read.watch)",
        "session.commit_and_read(transaction, read.queries)",
    ),
    (
        "what follows at once begins in a paused workflow",
        _FOLLOWING,
        "following = None if frame.workflow.holds_back else",
        "following = None if False else",
    ),
    (
        "a run that is followed at once is the one that was read",
        _FOLLOWING,
        "run = RUN.applied(fields, run)",
        "run = run or RUN.applied(fields, run)",
    ),
    (
        "a claim that a decision takes in has no lease",
        _FOLLOWING,
        "    decision.defers |= following.defers\n",
        "",
    ),
    (
        "a message that is owed and handled at once is forgotten, too",
        _FOLLOWING,
        "known = {*decision.forgets, owed.message.name}",
        "known = {*decision.forgets}",
    ),
    (
        "a process goes on with its workflow whoever waits",
        "store/changes.py",
        "beside.waiting = reply if isinstance(reply, int) else None",
        "beside.waiting = 0",
    ),
    (
        "what waits in other queues of a worker is not looked at",
        _TAKING,
        "return turn.is_over() or bool(self._seen is not None and self._seen.waiting)",
        "return turn.is_over()",
    ),
    (
        "what the commit of a delivery took is forgotten",
        _TAKING,
        "held = begun.held if begun is not None else None",
        "held = None",
    ),
    (
        "what is handled stays a dead letter",
        "store/changes.py",
        "            return not change.is_well\n",
        "            return False\n",
    ),
    (
        "the last event of a commit is read again and again",
        "store/event_stream.py",
        "first + (at if at < last else PER_ENTRY - 1)",
        "first + at",
    ),
    (
        "each keeper that fires a schedule starts a workflow of its own",
        "runtime/scheduler.py",
        "        workflow_id = scheduled_id(self._namespace, schedule.name, at_ms)\n        try:",
        '        workflow_id = scheduled_id(self._namespace, f"{schedule.name}{id(schedule)}", at_ms)\n        try:',
    ),
)
_WATCHES = (
    Bug(
        "neither the entry nor the run is watched where a result is recorded",
        "unit of work",
        (
            Edit(_HANDLER, "(entry, places.WORKFLOW, *watch)", "(places.WORKFLOW, *watch)"),
            Edit(_RESULTS, "watch=[run_key])\n\n\ndef record(", "watch=[])\n\n\ndef record("),
        ),
    ),
    Bug(
        "what a join has used is not watched",
        "threads and joins",
        (
            Edit(
                "engine/handlers/evaluate_join.py",
                "watch = (places.WORKFLOW, places.join(name), places.shut(name), *((entry,) if settles else ()))",
                "watch = (places.WORKFLOW,)",
            ),
        ),
    ),
)

CONTROL = Bug("no bug at all", "control", ())
"""Must be seen by nothing: a suite that cries at everything proves nothing."""

BUGS: tuple[Bug, ...] = (
    *_WATCHES,
    *(
        _bug(room, *row)
        for room, rows in (
            ("unit of work", _UNIT_OF_WORK),
            ("claims", _CLAIMS),
            ("keeper and leases", _KEEPING),
            ("names", _NAMES),
            ("threads and joins", _FLOW),
            ("locks", _LOCKING),
            ("outside", _OUTSIDE),
            ("inner workflows", _INNER),
            ("lanes, turns, schedules", _SHARING),
        )
        for row in rows
    ),
)
