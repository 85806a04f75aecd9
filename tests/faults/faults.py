"""All that is done to the pipeline, in the order by which seeds name it: new faults come at the end."""

import signal

from tests.faults import moments, outages, replaced
from tests.faults.moments import at, kill, kill_soon, none, while_separating
from tests.faults.outages import restart, sent, way
from tests.faults.run import RELAYS, WORKERS, Fault
from tests.faults.stack import HEARTBEAT_S, LEASE_S
from tests.proxy import RESET, SLOW, STALL

FAULTS = (
    Fault("worker killed after the lease", at(moments.LEASED, kill)),
    Fault("worker killed while it separates", while_separating(kill_soon)),
    Fault("worker killed between two stems", at(moments.STEM, kill)),
    Fault("worker killed before the record", at(moments.BEFORE_RECORD, kill)),
    Fault("worker killed after the record", at(moments.AFTER_RECORD, kill)),
    Fault("relay killed with payloads it fetched", at(moments.FETCHED, kill)),
    Fault("relay killed with a job it took", at(moments.TAKEN, kill)),
    Fault("relay killed before the answer is entered", at(moments.BEFORE_SETTLED, kill)),
    Fault("relay killed after the answer is entered", at(moments.SETTLED, kill)),
    Fault("tracks killed", sent(signal.SIGKILL, "tracks"), repeats=0),
    Fault("worker ended by SIGTERM", sent(signal.SIGTERM, *WORKERS)),
    Fault("relay ended by SIGTERM", sent(signal.SIGTERM, *RELAYS)),
    Fault("worker paused for longer than its lease", sent(signal.SIGSTOP, *WORKERS, pause_s=LEASE_S + 0.5), repeats=2),
    Fault("relay paused until it counts as dead", sent(signal.SIGSTOP, *RELAYS, pause_s=4 * HEARTBEAT_S), repeats=2),
    Fault("Redis restarted", restart("redis", signal.SIGTERM)),
    Fault("Redis killed", restart("redis", signal.SIGKILL)),
    Fault("Redis: FLUSHALL", outages.flush, repeats=2),
    Fault("the notifications deleted", outages.forget_notifications, repeats=2),  # the relays are paused for it
    Fault("MinIO restarted", restart("minio", signal.SIGTERM), repeats=2),
    Fault("MinIO killed", restart("minio", signal.SIGKILL), repeats=2),
    Fault("MinIO and Redis down at once", outages.both_down, repeats=2),
    Fault("Redis paused, MinIO killed", outages.lose_announcements, repeats=2),
    Fault("a way reset", way(RESET), repeats=3),
    Fault("a way stalled", way(STALL), repeats=2),
    Fault("a way slowed", way(SLOW), repeats=1),
    Fault("a request to MinIO lost", at(moments.BEFORE_RECORD, none)),
    Fault("an answer of MinIO lost", at(moments.AFTER_RECORD, none)),
    Fault("an answer of Redis lost: taken", at(moments.TAKEN, none)),
    Fault("an answer of Redis lost: entered", at(moments.SETTLED, none)),
    Fault("the workers' disks full", outages.fill_disks, repeats=4, needs_disks=True),
    Fault("Redis full (maxmemory)", outages.fill_redis, repeats=2),
    Fault("announced 1 to 5 times, shuffled", replaced.announce_often, repeats=2),  # the relays are paused for it
    Fault("overwritten while it is separated", while_separating(replaced.overwrite)),
    Fault("removed before its turn", replaced.remove_early, repeats=0),
    Fault("the same bytes under two names", replaced.same_bytes, repeats=0),
    Fault("bytes that are no song", replaced.no_song, repeats=0),
    Fault("worker killed before the plan", at(moments.BEFORE_PLAN, kill)),
    Fault("worker killed between plan and answer", at(moments.AFTER_PLAN, kill)),
    Fault("worker killed while it makes a part", at(moments.MAKING_PART, kill)),
    Fault("worker killed between a part's sound and its word", at(moments.BEFORE_ABOUT, kill)),
    Fault("worker killed between the record and the parts' end", at(moments.BEFORE_CLEARING, kill)),
    Fault("relay killed before a division is entered", at(moments.BEFORE_DIVIDED, kill)),
    Fault("relay killed after a division is entered", at(moments.DIVIDED, kill)),
    Fault("relay killed before a part is entered", at(moments.BEFORE_PART_SETTLED, kill)),
    Fault("relay killed after a part is entered", at(moments.PART_SETTLED, kill)),
    Fault("overwritten while its parts are made", replaced.overwrite_divided, repeats=0),
    Fault("overwritten by bytes that are done", replaced.done_again, repeats=0),
)
