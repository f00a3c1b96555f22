# Needs make and Python 3.11 only: each target first installs everything else into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
DEMO := demo
# by file: what a file makes once is then made once, not once in each process
TEST_OPTIONS ?= -n 2 --dist loadfile
# what builds the image, and what the image is called; e.g. IMAGE_OPTIONS="--build-arg NAME=VALUE"
ENGINE ?= $(shell command -v docker || command -v podman || echo docker)
IMAGE ?= bids-deepmrseg:$(shell cat version)
REVISION = $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null)

.PHONY: help demo model-brainmask model-flairbrain model-deepbrain model-hippocampus model-wml test image test-podman test-apptainer test-container test-slurm lint types check clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    run all tasks on one T1w and one simulated FLAIR; say where tables and pictures are"
	@echo "make test    run the tests            (TEST_OPTIONS='-m \"not slow\"' and the like)"
	@echo "make image   build the container image; for CPUs only add IMAGE_OPTIONS='--build-arg"
	@echo "             TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu'"
	@echo "make test-container  build and run the image with podman and Apptainer: as root, on Debian"
	@echo "make test-slurm      run the app on a Slurm of one node: as root, on Debian"
	@echo "make lint    check style and format"
	@echo "make types   check types"
	@echo "make check   lint, types and test"
	@echo "make clean   remove .venv, demo/, .engines and caches"

$(INSTALLED): pyproject.toml constraints.txt version
	@echo "Installing into $(VENV), once; this takes some minutes ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,dev,demo]'
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/python docs/demo/make_dataset.py $(DEMO)/bids
	$(BIN)/bids-deepmrseg $(DEMO)/bids $(DEMO)/deepmrseg participant -w $(DEMO)/work
	$(BIN)/bids-deepmrseg $(DEMO)/bids $(DEMO)/deepmrseg group
	@$(BIN)/python docs/demo/show_results.py $(DEMO)/deepmrseg

# The shipped weights once more: LABELLED, HEAD_MAPS and RUNS are folders (docs/models/*.md).
BRAIN = $(BIN)/deepmrseg-train brainmask $(HEAD_MAPS)
BRAIN_OPTIONS = --head-maps $(HEAD_MAPS) --exclude-maps head-05 head-10 head-15 head-20 \
  --data-card docs/models/brainmask_data.toml
model-brainmask: $(INSTALLED)
	$(BRAIN) $(RUNS)/1 --recipe brainmask --seed 1 $(BRAIN_OPTIONS)
	$(BRAIN) $(RUNS)/2 --recipe brainmask-again --seed 2 --start-from $(RUNS)/1/brainmask $(BRAIN_OPTIONS)
	$(BRAIN) $(RUNS)/3 --recipe brainmask-again --seed 3 --start-from $(RUNS)/2/brainmask $(BRAIN_OPTIONS)

model-flairbrain: $(INSTALLED)
	$(BIN)/deepmrseg-train flairbrain $(HEAD_MAPS) $(RUNS)/flairbrain --recipe flairbrain --seed 4 \
	  --start-from bids_deepmrseg/data/models/brainmask --head-maps $(HEAD_MAPS) \
	  --exclude-maps head-05 head-10 head-15 head-20 --data-card docs/models/flairbrain_data.toml

DEEP_OPTIONS = --head-maps $(HEAD_MAPS) --data-card docs/models/deepbrain_data.toml
DEEP = $(BIN)/deepmrseg-evaluate crossval deepbrain $(LABELLED)
DEEP_FOLDS = --groups docs/models/deepbrain_groups.tsv --network deepmrseg $(DEEP_OPTIONS)
model-deepbrain: $(INSTALLED)
	$(BIN)/deepmrseg-train deepbrain $(LABELLED) $(RUNS)/painted --recipe painted-places $(DEEP_OPTIONS)
	$(DEEP) $(RUNS)/places --recipe manual-places --start-from $(RUNS)/painted/deepbrain $(DEEP_FOLDS)
	$(DEEP) $(RUNS)/again --recipe manual-places-again --start-runs $(RUNS)/places $(DEEP_FOLDS)
	$(BIN)/deepmrseg-evaluate ensemble $(RUNS)/again/deepmrseg/repeat-1_fold-*/deepbrain \
	  --into $(RUNS)/deepbrain

# As above, DECATHLON being the folder of Task04 (docs/models/hippocampus.md).
CROSSVAL = $(BIN)/deepmrseg-evaluate crossval hippocampus $(RUNS)/bids
CROSSVAL_OPTIONS = --network deepmrseg --data-card docs/models/hippocampus_data.toml
model-hippocampus: $(INSTALLED)
	$(BIN)/python docs/models/make_hippocampus_dataset.py $(DECATHLON) $(RUNS)/bids
	$(CROSSVAL) $(RUNS)/place --recipe place $(CROSSVAL_OPTIONS)
	$(CROSSVAL) $(RUNS)/any-place --recipe any-place --start-runs $(RUNS)/place $(CROSSVAL_OPTIONS)
	$(BIN)/deepmrseg-evaluate ensemble $(RUNS)/any-place/deepmrseg/repeat-1_fold-*/hippocampus \
	  --into $(RUNS)/hippocampus

# LESIONS is a folder with FLAIR, T1w and lesion masks (docs/models/wml.md).
LESION_OPTIONS = --groups docs/models/wml_groups.tsv --reference label-lesion_mask \
  --head-maps $(HEAD_MAPS) --exclude-maps head-05 head-10 head-15 head-20 \
  --data-card docs/models/wml_data.toml
model-wml: $(INSTALLED)
	$(BIN)/deepmrseg-evaluate crossval wml $(LESIONS) $(RUNS)/lesions --recipe lesions --folds 6 \
	  --network deepmrseg $(LESION_OPTIONS) --no-variants
	$(BIN)/deepmrseg-evaluate crossval wml $(LESIONS) $(RUNS)/again --recipe lesions-again --folds 6 \
	  --network deepmrseg $(LESION_OPTIONS) --start-runs $(RUNS)/lesions
	$(BIN)/deepmrseg-evaluate ensemble $(RUNS)/again/deepmrseg/repeat-1_fold-*/wml \
	  --into $(RUNS)/wml --flips

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TEST_OPTIONS)

image:
	$(ENGINE) build --build-arg VERSION="$$(cat version)" --build-arg REVISION="$(REVISION)" \
	  --build-arg IMAGE_TAG="$(IMAGE)" $(IMAGE_OPTIONS) --tag "$(IMAGE)" .

# These install what they need with apt-get and keep what they make in .engines.
test-podman: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/engines/test_container.py --engine container

test-apptainer: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/engines/apptainer --engine apptainer

test-container: test-podman test-apptainer

test-slurm: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/engines/test_slurm.py --engine slurm

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED)
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	[ ! -d .engines ] || find .engines -xdev -delete  # never into what is mounted there
	find bids_deepmrseg tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
