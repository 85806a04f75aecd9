# Everything here is also what CI calls. `make` alone tells what there is.
.DEFAULT_GOAL := help
PY := .venv/bin/python
LOCAL := $(PY) -m stems_local
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help setup sounds browser demo up down test test-faults test-hostile images test-images test-cluster lint manifests format bench bench-separate \
	requirements sbom audit clean .env

help: ## Tell what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

KERNELS := hatch_build.py functions/stems/separate/kernels/sources.py $(wildcard functions/stems/separate/kernels/*.[ch])

.venv/.ready: requirements.txt pyproject.toml local/setup.sh $(KERNELS)
	@local/setup.sh

setup: .venv/.ready ## Get everything: virtual environment, MinIO, mc, Redis
	@$(LOCAL) setup

sounds: ## Get what the tests' song maker plays: FluidSynth, espeak-ng, soundfonts
	@local/sounds.sh

browser: ## Get what the tests of the page need: Chromium and a font
	@local/packages.sh chromium fonts-dejavu-core

demo: .venv/.ready ## Separate a song through the whole pipeline and show where the time goes (SONG=file: yours)
	@$(LOCAL) demo $(if $(SONG),"$(SONG)")

up: .venv/.ready ## Run the pipeline in the foreground; Ctrl-C stops all of it (WORKERS=n: so many songs at a time)
	@$(LOCAL) up $(if $(WORKERS),--workers $(WORKERS))

down: .venv/.ready ## Stop a pipeline that another terminal started
	@$(LOCAL) down

test: setup ## Run all tests (ARGS: more for pytest)
	@$(PY) -m pytest $(ARGS)

test-hostile: setup ## Send all hostile files, and print what became of them (tests/README.md)
	@STEMS_HOSTILE_SHARE=1 $(PY) -m pytest tests/hostile -s $(ARGS)

images: ## Build the three container images (local/images.sh says with which variables)
	@local/images.sh

test-images: setup ## Run the pipeline on the images; `make images` first
	@$(PY) -m pytest tests/images -m images $(ARGS)

test-faults: setup ## Break the pipeline by schedules (SEEDS=1-200, or one that failed) and see that nothing is lost
	@$(if $(SEEDS),,$(PY) -m pytest tests/faults -m "faults or not faults" $(ARGS))
	@$(PY) -m tests.faults $(or $(SEEDS),1-200)

test-cluster: setup manifests ## Deploy to the cluster of KUBECONFIG, in a namespace of its own, and test there (knative/README.md)
	@$(PY) -m pytest tests/cluster -m cluster -s $(ARGS)

.env: # Passwords for compose.yaml: random ones where one is missing
	@knative/secrets.sh $@

lint: .venv/.ready ## Check style, types, import boundaries, README
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m pytest -q tests/unit/test_readme.py tests/unit/test_boundaries.py

manifests: .venv/.ready ## Build every overlay and component of knative/, check each object against schemas and rules
	@$(PY) -m knative.verify

format: .venv/.ready ## Bring the code into form
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: setup ## Measure; prints, never judges
	@$(PY) -m pytest tests/bench -m bench -s $(ARGS)

bench-separate: setup ## Measure the engine beside demucs' command line (ROUNDS=5: more rounds; ARGS="-k long": 20 and 60 minutes)
	@ROUNDS=$(ROUNDS) $(PY) -m pytest tests/bench/test_separate.py -m bench -s $(if $(ARGS),$(ARGS),-k "not long")

requirements: .venv/.ready ## Pin again what pyproject.toml asks for
	@local/requirements.sh

sbom: .venv/.ready ## Write what the packages are made of, as CycloneDX, to .stems/sbom.json
	@.venv/bin/uv tool run --from 'cyclonedx-bom>=7,<8' cyclonedx-py requirements requirements.txt -o .stems/sbom.json

audit: .venv/.ready ## Look for known weaknesses in the packages; needs PyPI or OSV
	@.venv/bin/uv tool run --from 'pip-audit>=2.9,<3' pip-audit --disable-pip --strict -r requirements.txt

clean: ## Remove the virtual environment and what was built and stored locally
	rm -rf .venv .stems stems-out
