"""Music separation as a service: what every stage shares. Importing this package never imports torch."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("stems")
except PackageNotFoundError:  # a source tree on PYTHONPATH, never installed
    __version__ = "0+source"
