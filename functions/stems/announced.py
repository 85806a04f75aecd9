"""What MinIO has announced and no relay has taken yet."""

from collections.abc import Iterable, Iterator

from stems.contract import Upload, records
from stems.errors import BadNotification


def uploads(payloads: Iterable[str]) -> Iterator[Upload]:
    """Read the uploads of notifications, each once."""
    seen: set[str] = set()
    for payload in payloads:
        try:
            found = [Upload.from_record(record) for record in records(payload.encode())]
        except BadNotification:
            continue  # the relay will keep it as a dead letter
        for upload in found:
            if upload.job not in seen:
                seen.add(upload.job)
                yield upload
