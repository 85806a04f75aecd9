"""The whole pipeline as processes of one machine: what `make demo`, `make up` and the tests run."""
