"""Lets `python -m stems.cli` do what the console script `stems` does."""

from stems.cli import main

main(prog_name="stems")
