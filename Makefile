# Every target runs inside .venv, which is made when it is missing or older than pyproject.toml; nothing outside the checkout
# is touched. `make` alone lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
XMODAL := $(BIN)/python -m xmodal
# Caches of the tools that are used; set them in the environment to share one between checkouts.
export UV_CACHE_DIR ?= $(VENV)/cache/uv
export PIP_CACHE_DIR ?= $(VENV)/cache/pip
export MPLCONFIGDIR ?= $(VENV)/cache/matplotlib
export HF_HOME ?= $(VENV)/cache/huggingface
export TORCH_HOME ?= $(VENV)/cache/torch
export TRITON_CACHE_DIR ?= $(VENV)/cache/triton
export WANDB_CONFIG_DIR ?= $(VENV)/cache/wandb
# TORCH_INDEX=<url of a torch wheel index> installs another build of torch (CPU only, or for an older driver).
TORCH_INDEX ?=
DATA ?= emoji
give = $(if $(2),--$(1)='$(2)')
# $(call with,module,extra) installs an extra of the package where its module is missing.
with = $(BIN)/python -c 'import $(1)' 2>/dev/null || $(BIN)/python -m pip install -q -c constraints.txt -e '.[$(2)]'
RUN_OPTIONS = $(call give,bits,$(BITS)) $(call give,dim,$(DIM)) $(call give,seed,$(SEED)) $(call give,epochs,$(EPOCHS)) $(call give,devices,$(DEVICES))
GRID_OPTIONS = $(call give,bits,$(BITS)) $(call give,dim,$(DIM)) $(call give,seeds,$(SEEDS)) $(call give,workers,$(WORKERS)) $(call give,epochs,$(EPOCHS)) $(call give,devices,$(DEVICES))
SWEEP_OPTIONS = $(call give,trials,$(TRIALS)) $(call give,minutes,$(MINUTES)) $(call give,workers,$(WORKERS)) $(call give,storage,$(STORAGE)) \
  $(call give,sampler,$(SAMPLER)) $(call give,sampler_seed,$(SAMPLER_SEED)) $(call give,pruner,$(PRUNER)) $(call give,warm_start,$(WARM_START)) \
  $(call give,against,$(AGAINST)) $(call give,jobs,$(JOBS)) $(foreach setting,$(JOB),--job='$(setting)')

# A variable that a target does not take is refused, as an unknown option is; each target's line of help lists what it takes.
takes = $(shell sed -n 's/^$(1):[^\#]*\#\# //p' $(firstword $(MAKEFILE_LIST)) | grep -oE '[A-Z_]+=' | tr -d =)
OF_ALL := PYTHON TORCH_INDEX MPLCONFIGDIR %_DIR %_HOME
TYPED := $(filter-out $(OF_ALL),$(foreach each,$(.VARIABLES),$(if $(filter command,$(origin $(each))),$(each))))
$(foreach goal,$(MAKECMDGOALS),$(foreach each,$(filter-out $(call takes,$(goal)),$(TYPED)),$(error make $(goal) takes no $(each); it takes: $(or $(call takes,$(goal)),nothing))))

.PHONY: help setup prepare sweep ablate bits table plots train smoke compare demo dashboard sync workspace docs test lint types format constraints ci clean
.DEFAULT_GOAL := help

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.stamp ## create .venv (about 6 GB; under 3 minutes on a fast line)

$(VENV)/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": set PYTHON=python3.12 or so")'
	@$(PYTHON) -c 'import shutil, sys; free = shutil.disk_usage(".").free / 2**30; sys.exit(free < 8 and f"8 GB of free disk are needed here, there are {free:.1f}: make room, or give a smaller build of torch with TORCH_INDEX=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into .venv (once)"
	@$(BIN)/python -m pip install -q uv 2>/dev/null || echo "uv is not to be had here; pip does the same more slowly"
	@if [ -n "$(TORCH_INDEX)" ]; then $(BIN)/python -m pip install -q --index-url "$(TORCH_INDEX)" -c constraints.txt torch torchvision; fi
	@if ! $(BIN)/python -m uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]' 2>/dev/null; then \
	  $(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'; fi
	@$(BIN)/python -W ignore -c 'import lightning, timm, open_clip, torch_geometric, wandb, optuna, torchvision, torch; print("torch", torch.__version__, "| lightning", lightning.__version__, "| cuda", torch.cuda.is_available())'
	@rm -rf $(VENV)/cache/uv $(VENV)/cache/pip
	@touch $@

prepare: setup ## encode a dataset's features once: DATA=emoji
	@$(XMODAL) prepare '$(DATA)'

sweep: setup ## search and evaluate: METHOD=dmsf|a,b|all BITS=64 [DIM=] [DATA=emoji|my.yaml] [TRIALS=] [MINUTES=] [WORKERS=] [SEED=] [EPOCHS=] [DEVICES=] [STORAGE=] [SAMPLER=] [SAMPLER_SEED=] [PRUNER=] [WARM_START=] [AGAINST=] [JOBS=] [JOB=]
	@$(XMODAL) sweep '$(METHOD)' '$(DATA)' $(RUN_OPTIONS) $(SWEEP_OPTIONS)

ablate: setup ## the full method against its variants: METHOD=dmsf|a,b|all [BITS=] [DIM=] [DATA=emoji] [SEEDS=0,1,2] [WORKERS=] [EPOCHS=] [DEVICES=]
	@$(XMODAL) ablate '$(METHOD)' '$(DATA)' $(GRID_OPTIONS)

bits: setup ## the tuned method over code lengths: METHOD=dmsf|a,b|all [BITS=16,32,64,128] [DIM=] [DATA=emoji] [SEEDS=0,1,2] [WORKERS=] [EPOCHS=] [DEVICES=]
	@$(XMODAL) bits '$(METHOD)' '$(DATA)' $(GRID_OPTIONS)

table: setup ## every method on every dataset at every size, and all tables of README and docs: [METHODS=] [DATA=a,b] [SIZES=16,32,64,128] [TRIALS=24] [SEEDS=0,1,2,3,4] [WORKERS=] [EPOCHS=] [DEVICES=]
	@$(XMODAL) table $(call give,methods,$(METHODS)) $(call give,data,$(if $(filter file,$(origin DATA)),,$(DATA))) $(call give,sizes,$(SIZES)) $(call give,trials,$(TRIALS)) $(call give,seeds,$(SEEDS)) $(call give,workers,$(WORKERS)) $(call give,epochs,$(EPOCHS)) $(call give,devices,$(DEVICES))

plots: setup ## figures of a study and of the runs at its size: METHOD=dmsf BITS=64 [DIM=] [DATA=emoji] [AGAINST=] [STORAGE=]
	@$(XMODAL) plots '$(METHOD)' '$(DATA)' $(call give,bits,$(BITS)) $(call give,dim,$(DIM)) $(call give,against,$(AGAINST)) $(call give,storage,$(STORAGE))

train: setup ## one run, one evaluation: METHOD=dmsf [DATA=emoji|my.yaml] [BITS=] [DIM=] [SEED=] [EPOCHS=] [DEVICES=]
	@$(XMODAL) train '$(METHOD)' '$(DATA)' $(RUN_OPTIONS)

smoke: setup ## one epoch of every method on 64 pairs of emoji
	@$(XMODAL) smoke

compare: setup ## a table and runs/compare.html, a page of the runs at hand: [METHODS=] [DATA=] [BITS=]
	@$(XMODAL) compare $(call give,methods,$(METHODS)) $(call give,data,$(if $(filter file,$(origin DATA)),,$(DATA))) $(call give,bits,$(BITS))

demo: setup ## a page that searches what runs have encoded, by words and pictures: [PORT=8000]
	@$(XMODAL) demo $(call give,port,$(PORT))

dashboard: setup ## the studies in a browser: [STORAGE=] [PORT=8080]
	@$(call with,optuna_dashboard,dashboard)
	@$(XMODAL) dashboard $(call give,storage,$(STORAGE)) $(call give,port,$(PORT))

sync: setup ## upload to W&B what was logged offline
	@$(XMODAL) sync

workspace: setup ## save a W&B workspace that groups the runs by setup: [ENTITY=]
	@$(call with,wandb_workspaces,workspace)
	@$(XMODAL) workspace $(call give,entity,$(ENTITY))

docs: setup ## the documentation as a site, strictly: build/site/index.html opens from the disk
	@$(BIN)/zensical build --strict --clean

# Three on two cores, as tests often wait for processes that they have started.
test: setup ## the tests
	@$(XMODAL) prepare emoji > /dev/null
	@$(BIN)/python -m pytest -q -n $$(($$(getconf _NPROCESSORS_ONLN) * 3 / 2)) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: setup ## ruff and the floors between packages
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-cache

types: setup ## mypy --strict on src
	@$(BIN)/mypy

format: setup ## rewrite the files as ruff likes them
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

constraints: setup ## write the installed versions to constraints.txt
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | grep -viE '^(uv|pip|setuptools)='; } > .constraints && mv .constraints constraints.txt

ci: lint types test ## what CI runs

clean: ## remove .venv and the tools' caches; runs and data stay
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
