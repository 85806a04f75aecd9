"""The errors of every stage; which branch an error stands on decides what happens to the song.

StemsError
├── ConfigError              a setting is wrong: the process does not start
├── PermanentError           trying again cannot help: 4xx, dead letter
│   ├── BadNotification      a payload or CloudEvent that names no upload
│   ├── BadOptions           the upload's options ask for something that does not exist
│   ├── BadAudio             the bytes are not a song that can be separated
│   ├── BadStems             the model makes no sound of the song
│   ├── ModelUnavailable     the model asked for is not in the model folder
│   ├── ObjectGone           the upload was removed or overwritten before its turn
│   ├── UnknownTrack         no such track, stem or dead letter
│   ├── UnknownJob           no such job
│   ├── Ended                the job has ended: nothing can be cancelled or tried again
│   └── Cancelled            somebody cancelled the song while it was in work
└── TransientError           trying again can help: 503, kept in the queue
    ├── StorageUnavailable   MinIO does not answer
    ├── StateUnavailable     Redis does not answer
    ├── InProgress           somebody else separates this song now: 409
    ├── Busy                 this worker separates another song now: 429
    └── EncodeFailed         the encoder died (full disk, killed): 500
"""


class StemsError(Exception):
    """Base of all errors raised on purpose; `str(error)` is a sentence for people."""


class ConfigError(StemsError):
    """Names the setting, its value and what is wrong with it."""


class PermanentError(StemsError):
    """Nothing changes by trying again: the sender gets 4xx and the song becomes a dead letter."""

    status = 422


class BadNotification(PermanentError):
    """A payload or CloudEvent that is malformed or names no upload."""

    status = 400


class BadOptions(PermanentError):
    """A per-song option has a value that does not exist."""


class BadAudio(PermanentError):
    """The upload is empty, no audio, truncated or too long."""


class BadStems(PermanentError):
    """What the model makes of the song is not finite: weights that are damaged, or not for such a song."""


class ModelUnavailable(PermanentError):
    """The model is not in the model folder."""


class ObjectGone(PermanentError):
    """The object was removed or overwritten by other bytes."""

    status = 404


class UnknownTrack(PermanentError):
    """No such track, stem or dead letter."""

    status = 404


class UnknownJob(PermanentError):
    """No such job, or it ended long ago."""

    status = 404


class Ended(PermanentError):
    """A job's state does not allow what is asked for."""

    status = 409


class Cancelled(PermanentError):
    """The song was cancelled while it was in work."""

    status = 409


class TransientError(StemsError):
    """A later try can succeed. `retry_after_s` is a hint for the sender, in seconds."""

    status = 503

    def __init__(self, message: str, retry_after_s: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageUnavailable(TransientError):
    """MinIO cannot be reached or answers with an error of its own."""


class StateUnavailable(TransientError):
    """Redis cannot be reached or is not ready."""


class InProgress(TransientError):
    """The song is being separated by somebody else; `retry_after_s` is what is left of their lease."""

    status = 409


class Busy(TransientError):
    """This worker separates one song at a time, and has one."""

    status = 429


class EncodeFailed(TransientError):
    """The encoder ended without a file: with 500 a failed attempt, since it may be this song that does it."""

    status = 500
