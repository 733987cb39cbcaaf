# Needs CPython 3.11, git and make. Everything else goes into .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_HOME := $(CURDIR)/.prefect
export PREFECT_LOGGING_LEVEL ?= WARNING

.DEFAULT_GOAL := help
.PHONY: help install repro ablation test test-slow lint format bench graph clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ –/'

install: $(STAMP)  ## make .venv and install everything at the tested versions

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (about 3 minutes and 8 GB the first time) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# MediaPipe asks for the OpenCV build that needs a desktop's libGL; the headless build takes its place.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
		opencv-contrib-python-headless==4.11.0.86
	@touch $(STAMP)

repro: $(STAMP)  ## raw scans → avatars → report: the whole pipeline on the embedded people
	@dinar repro

ablation: $(STAMP)  ## what every ingredient brings: the paper's table 2, three seeds
	@dvc repro pipelines/ablation/dvc.yaml

test: $(STAMP)  ## the whole suite, the pipeline at its tiny profile included
	@python -m pytest

test-slow: $(STAMP)  ## what takes minutes
	@python -m pytest -m slow

lint: $(STAMP)  ## ruff, mypy, import contracts, the graph's dependencies
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports --no-cache
	@dinar graph check

format: $(STAMP)  ## apply ruff's formatting and fixes
	@ruff check --fix . ; ruff format .

bench: $(STAMP)  ## speed tables, data/reports/bench.json
	@python -m benchmarks.run_all

graph: $(STAMP)  ## write the code dependencies of dvc.yaml anew
	@dinar graph sync

clean:  ## remove everything that can be made again (not the environment)
	rm -rf data/stores data/offers data/models data/ablation data/reports data/.work data/.runs data/raw/synthetic data/raw/synthetic_truth
