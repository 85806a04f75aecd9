"""The names that stages share: buckets, objects, Redis keys. Nothing here does anything."""

import hashlib
import re
from pathlib import PurePosixPath

QUEUE_BUCKET = "queue"
OUTPUT_BUCKET = "output"
PARTS_FOLDER = "parts/"  # in `output`: what there is of songs that are divided

NOTIFICATIONS = "stems:notifications"  # list, RPUSHed by MinIO
WAITING = "stems:waiting"  # zset: job id by the time it is due, ms
ATTEMPTS = "stems:attempts"  # hash: job id -> deliveries that may have reached a worker
DEAD = "stems:dead"  # zset: job id by the time it died, ms
REPLIES = "stems:replies"  # zset: as WAITING, of replies
DEAD_REPLIES = "stems:replies:dead"  # zset: as DEAD, of replies
CALLBACKS = "stems:callbacks"  # zset: as WAITING, of callbacks
DEAD_CALLBACKS = "stems:callbacks:dead"  # zset: as DEAD, of callbacks
PARTS = "stems:parts"  # zset: parts of songs that wait, by their place in line, ms
PARTS_LATER = "stems:parts:later"  # zset: parts that failed, by the time they are due again, ms
WANTED = "stems:parts:wanted"  # hash: job id -> "<songhash> <plan>" by which it is divided, until it ends
UNWANTED = "stems:parts:unwanted"  # set: such wishes of jobs that have ended, for workers to remove what lies there
PASSED = "stems:parts:passed"  # string: how many songs were taken while parts waited, since the last part was
DIVIDED = "stems:divided"  # zset: songs whose parts are on their way, by the time of their division, ms
RELAYS = "stems:relays"  # zset: relay by its last heartbeat, ms
SWEEP_LOCK = "stems:sweep"  # string: the relay that sweeps now
TRACKS = "stems:tracks"  # zset: song hash by creation, ms
TRACK_NAMES = "stems:tracks:names"  # zset, all of one score: names of tracks, folded, for search by prefix
TRACKS_COMPLETE = "stems:tracks:complete:2"  # string: set once the index holds every record of the bucket
MODEL = "stems:model"  # string: the model for songs that name none, by the word of the last worker that started
MODELS = "stems:models"  # hash: model -> what is known of it, JSON
EVENTS = "stems:events"  # stream: what changed
PACE = "stems:pace"  # string: seconds that a song takes, of late
LOG_TAIL = "logging"  # list: the newest log lines of all parts

# What stands in line, by its kind: under which keys it waits and lies dead.
SONGS, PART = "songs", "parts"
LINES = {
    SONGS: (WAITING, DEAD),
    PART: (PARTS, "stems:parts:dead"),  # never filled: a part that fails is the dead letter of its song
    "replies": (REPLIES, DEAD_REPLIES),
    "callbacks": (CALLBACKS, DEAD_CALLBACKS),
}

# Tags on an upload, the answer of `mc tag list` to "how does my song stand?"
TAG_STATE, TAG_SONGHASH, TAG_ETAG, TAG_ERROR = "state", "songhash", "etag", "error"

# Metadata of a record: the objects that it names, without their song hash, as a listing of the bucket shows it.
NAMED = "x-amz-meta-objects"

_SONGHASH = re.compile(r"[0-9a-f]{64}")
_STEM = re.compile(r"[a-z0-9_]{1,32}")


def job_id(bucket: str, key: str, etag: str) -> str:
    """Return the identity of the work that an upload asks for (32 hex digits)."""
    return hashlib.sha256("\0".join((bucket, key, etag)).encode()).hexdigest()[:32]


def job_key(job: str) -> str:
    """Return the key of the hash that holds a job: state, progress, error, its S3 record."""
    return f"stems:job:{job}"


def reply_id(delivery: str) -> str:
    """Return the identity of the reply to a delivery. Its first letter tells it from jobs: it is no hex digit."""
    return f"r{delivery}"


def callback_id(delivery: str, whose: str) -> str:
    """Return the identity of a callback about a delivery; `whose`: `song` or `all`, as two may be called."""
    return f"w{delivery}{whose}"


def part_id(job: str, plan: str, name: str) -> str:
    """Return the identity of a part of a divided song: `part-<n>`, or `join-<stem>`, of the plan `plan`."""
    return f"p{job}.{plan}.{name}"


def song_of_part(part: str) -> str:
    """Return the identity of the song that a part is of."""
    return part[1:].partition(".")[0]


def kind(job: str) -> str:
    """Return what an id in line is of: `songs`, `parts`, `replies` or `callbacks`."""
    return {"p": PART, "r": "replies", "w": "callbacks"}.get(job[:1], SONGS)


def lines(job: str) -> tuple[str, str]:
    """Return the keys under which what has this id waits and lies dead."""
    return LINES[kind(job)]


def lease_key(identity: str) -> str:
    """Return the key of the lease on a job id or a song hash."""
    return f"stems:lease:{identity}"


def processing_key(relay: str) -> str:
    """Return the key of the list of payloads that a relay has taken and not yet read."""
    return f"stems:processing:{relay}"


def delivering_key(relay: str) -> str:
    """Return the key of the set of jobs that a relay is delivering."""
    return f"stems:delivering:{relay}"


def parts_key(job: str) -> str:
    """Return the key of the hash of a song's parts that are on their way: the progress of each."""
    return f"stems:parts:{job}"


def track_key(songhash: str) -> str:
    """Return the key of the copy of a track record in the index."""
    return f"stems:track:{songhash}"


def stem_object(songhash: str, stem: str, extension: str) -> str:
    """Return the object name of a stem in the bucket `output`."""
    return f"{songhash}-{stem}.{extension}"


def peaks_object(songhash: str) -> str:
    """Return the object name of a track's waveforms in the bucket `output`."""
    return f"{songhash}-peaks.json"


def record_object(songhash: str) -> str:
    """Return the object name of a track record in the bucket `output`."""
    return f"{songhash}.json"


def part_folder(songhash: str, plan: str = "") -> str:
    """Return where in the bucket `output` all parts of a song are, or those of one plan; it ends with a slash."""
    return f"{PARTS_FOLDER}{songhash}/" + (f"{plan}/" if plan else "")


def songhash_of_record(name: str) -> str | None:
    """Return the song hash when `name` is that of a track record, else None."""
    songhash = name.removesuffix(".json")
    return songhash if name.endswith(".json") and is_songhash(songhash) else None


def is_songhash(text: str) -> bool:
    """Tell whether `text` is a SHA-256 in lower-case hex."""
    return _SONGHASH.fullmatch(text) is not None


def is_stem(text: str) -> bool:
    """Tell whether `text` could be the name of a stem."""
    return _STEM.fullmatch(text) is not None


def song_name(key: str) -> str:
    """Return what people call the song of this object key: its last part."""
    return PurePosixPath(key).name or key
