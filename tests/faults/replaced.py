"""Faults of uploads: overwritten, removed, announced again and again, sent twice, no songs at all."""

import signal
from collections.abc import Callable

from tests.faults import checker, moments, songs
from tests.faults.run import RELAYS, Run
from tests.faults.songs import Accepted
from tests.faults.stack import quietly, wait

_END_S = 120.0


def overwrite(run: Run, part: str, key: str) -> None:
    """Overwrite the song that is being separated."""
    run.overwrite(key)


def overwrite_divided(run: Run) -> bool:
    """Overwrite a divided song while a part of it is made, and let the worker go on with what it has."""

    def act(run: Run, part: str) -> None:
        run.put("divided", run.song())

    return moments.at(moments.MAKING_PART, act, passes=True)(run)


def done_again(run: Run) -> bool:
    """Overwrite a song that is done by another one, and that, just before its record, by the first one again."""
    first, name = run.song(divided=False), "again"
    upload = run.put(name, first)
    if not wait(_ended(run, upload), _END_S):
        return False

    def act(run: Run, part: str) -> None:
        # Less long than the worker waits for the answer to its request.
        wait(_ended(run, run.put(name, first)), 20)

    second = run.song(divided=False)
    return moments.strike_at(run, moments.BEFORE_ITS_RECORD, act, second, name, passes=True)


def remove_early(run: Run) -> bool:
    """Upload and remove at once, behind others in the line where there are some."""
    run.remove(run.put("regretted", run.song()))
    return True


def same_bytes(run: Run) -> bool:
    """Upload the same bytes under two more names."""
    same = run.song()
    for name in ("same1", "same2"):
        run.put(name, same)
    return True


def no_song(run: Run) -> bool:
    """Upload bytes that are no song."""
    run.put("no-song", songs.no_song(f"{run.random.random()}"))
    return True


def announce_often(run: Run) -> bool:
    """Have each notification delivered 1 to 5 times, in random order."""
    relays, store = [run.stack.parts[name] for name in RELAYS], run.stack.redis
    for part in relays:
        part.send(signal.SIGSTOP)
    for number in range(3):
        run.put(f"often{number}", run.song())
    wait(lambda: quietly(lambda: store.llen("stems:notifications") >= 3), 5)
    found = quietly(lambda: store.lrange("stems:notifications", 0, -1)) or []
    repeated = [payload for payload in found for _ in range(run.random.randint(1, 5))]
    run.random.shuffle(repeated)
    if repeated:
        pipe = store.pipeline()
        pipe.delete("stems:notifications").rpush("stems:notifications", *repeated)
        repeated = quietly(pipe.execute) or []
    for part in relays:
        part.send(signal.SIGCONT)
    return bool(repeated)


def _ended(run: Run, upload: Accepted) -> Callable[[], bool | None]:
    return lambda: quietly(lambda: checker.ended(run.stack.root, upload))
