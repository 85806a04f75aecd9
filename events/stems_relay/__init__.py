"""Takes MinIO's notifications out of Redis and delivers each new upload, once it is known, as a CloudEvent."""
