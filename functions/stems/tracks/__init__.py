"""The REST function: lists the tracks and what stands in line, and serves the stems. Never imports torch."""
