# The whole way from raw text to an exported BERT, one target a step. Each
# finished step leaves a file behind and is not done again; `make clean`
# removes what was made, not the environment.
#
#   make pretrain                                     the embedded sample
#   make pretrain SOURCE=jsonl INPUT='news/*.jsonl' OUTPUT=my_run

PYTHON      ?= python3.11
# The set of versions, and an environment for each set. constraints-tf218.txt is
# for TPU machines that have TensorFlow 2.18.
CONSTRAINTS ?= constraints.txt
VENV        ?= .venv$(patsubst constraints%.txt,%,$(notdir $(CONSTRAINTS)))
OUTPUT      ?= output
SAMPLE_DIR  ?= $(OUTPUT)/sample
VOCAB       ?= $(OUTPUT)/vocab.txt
DATA_DIR    ?= $(OUTPUT)/records
MODEL_DIR   ?= $(OUTPUT)/model
EXPORT_DIR  ?= $(OUTPUT)/export

# The text: a source and a pattern, or pairs of both (several flags).
SOURCE      ?=
INPUT       ?=
ifeq ($(strip $(INPUT)),)
TEXT_FLAGS  ?= --source=wikipedia --input=$(SAMPLE_DIR)/enwiki-sample.xml.bz2 \
               --source=text --input=$(SAMPLE_DIR)/lee-news.txt \
               --text_layout=line
TEXT_FILES  := $(SAMPLE_DIR)/README.md
else
TEXT_FLAGS  ?= --source=$(or $(SOURCE),text) --input='$(INPUT)'
TEXT_FILES  :=
endif

# All options come from the recipe. A variable that is set here or on the
# command line takes the place of the recipe's.
RECIPE      ?= recipes/sample-tiny
VOCAB_SIZE  ?=
SEQ_LENGTH  ?=
MODEL_SIZE  ?=
BATCH_SIZE  ?=
TOTAL_STEPS ?=
PEAK_RATE   ?=
WARMUP      ?=
PRECISION   ?=
BUILD_FLAGS ?=
TRAIN_FLAGS ?=

# $(call flag,NAME,VALUE): --NAME=VALUE, or nothing without a value.
flag = $(if $(2),--$(1)=$(2))

BIN := $(VENV)/bin
# The constraints are in the name, so that a change of them installs again.
INSTALLED := $(VENV)/.installed-$(shell cksum < $(CONSTRAINTS) | cut -d' ' -f1)
PIP := $(BIN)/pip install --quiet --disable-pip-version-check \
       -c $(CONSTRAINTS)

# Steps that `make compile-check` compiles, and the TPUs for them.
RECIPES     ?= $(wildcard recipes/*/compile_check*.flags)
ACCELERATOR ?= v5litepod-8

.PHONY: help install pretrain sample vocabulary tfrecords train evaluate \
        export compile-check test test-all torch beam compile lint format clean
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help:
	@echo "make pretrain    raw text to an exported BERT, every step below"
	@echo "make sample      fetch the embedded sample: Wikipedia and news"
	@echo "make vocabulary  learn a WordPiece vocabulary   -> $(VOCAB)"
	@echo "make tfrecords   build masked TFRecords         -> $(DATA_DIR)"
	@echo "make train       pretrain, or go on             -> $(MODEL_DIR)"
	@echo "make evaluate    measure on the test split      -> $(MODEL_DIR)"
	@echo "make export      write HuggingFace weights      -> $(EXPORT_DIR)"
	@echo "make test        run the fast tests"
	@echo "make test-all    run all tests   make lint   make clean"
	@echo "make compile-check  does each recipe's step fit on $(ACCELERATOR)?"
	@echo "                 minutes for each, and no TPU"
	@echo "Variables: RECIPE SOURCE INPUT OUTPUT MODEL_DIR VOCAB_SIZE SEQ_LENGTH"
	@echo "  MODEL_SIZE BATCH_SIZE TOTAL_STEPS PEAK_RATE WARMUP PRECISION"
	@echo "  BUILD_FLAGS TRAIN_FLAGS RECIPES ACCELERATOR CONSTRAINTS VENV PYTHON"

# ------------------------------------------------------------- environment

install: $(INSTALLED)

$(INSTALLED): setup.py $(CONSTRAINTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) …"
	@$(PIP) -e .
	@touch $@

$(INSTALLED)-test: $(INSTALLED)
	@$(PIP) -e '.[test]'
	@touch $@

$(INSTALLED)-compile: $(INSTALLED)
	@$(PIP) -e '.[compile]'
	@touch $@

torch: $(INSTALLED)-test
	@$(PIP) -e '.[torch]'

beam: $(INSTALLED)-test
	@$(PIP) -e '.[beam]'

compile: $(INSTALLED)-compile

# ------------------------------------------------------------ the main job

pretrain: export evaluate
	@$(BIN)/python -m bert_pretrain.summary --data_dir=$(DATA_DIR) \
	  --model_dir=$(MODEL_DIR) --export_dir=$(EXPORT_DIR)

sample: $(SAMPLE_DIR)/README.md

$(SAMPLE_DIR)/README.md: | $(INSTALLED)
	$(BIN)/python -m tfrecord_builders.fetch_sample --output_dir=$(SAMPLE_DIR)

vocabulary: $(VOCAB)

# A vocabulary that is older than the text may be the user's own: it stays.
$(VOCAB): | $(TEXT_FILES) $(INSTALLED)
	$(BIN)/python -m tfrecord_builders.learn_vocabulary \
	  --flagfile=$(RECIPE)/vocabulary.flags $(TEXT_FLAGS) \
	  $(call flag,vocab_size,$(VOCAB_SIZE)) --output_file=$@

tfrecords: $(DATA_DIR)/manifest.json

$(DATA_DIR)/manifest.json: $(VOCAB) $(TEXT_FILES)
	$(BIN)/python -m tfrecord_builders.build \
	  --flagfile=$(RECIPE)/build.flags $(TEXT_FLAGS) \
	  --vocab_file=$(VOCAB) --output_dir=$(DATA_DIR) \
	  $(call flag,seq_length,$(SEQ_LENGTH)) $(BUILD_FLAGS)

train: $(MODEL_DIR)/train_results.json

$(MODEL_DIR)/train_results.json: $(DATA_DIR)/manifest.json
	$(BIN)/python -m bert_pretrain.train \
	  --flagfile=$(RECIPE)/train.flags \
	  --data_dir=$(DATA_DIR) --model_dir=$(MODEL_DIR) \
	  $(call flag,model_size,$(MODEL_SIZE)) \
	  $(call flag,global_batch_size,$(BATCH_SIZE)) \
	  $(call flag,total_steps,$(TOTAL_STEPS)) \
	  $(call flag,peak_learning_rate,$(PEAK_RATE)) \
	  $(call flag,warmup_steps,$(WARMUP)) \
	  $(call flag,precision,$(PRECISION)) $(TRAIN_FLAGS)

evaluate: $(MODEL_DIR)/evaluate_results.json

$(MODEL_DIR)/evaluate_results.json: $(MODEL_DIR)/train_results.json
	$(BIN)/python -m bert_pretrain.evaluate --data_dir=$(DATA_DIR) \
	  --model_dir=$(MODEL_DIR) --split=test

export: $(EXPORT_DIR)/config.json

$(EXPORT_DIR)/config.json: $(MODEL_DIR)/train_results.json
	$(BIN)/python -m bert_pretrain.export --model_dir=$(MODEL_DIR) \
	  --output_dir=$(EXPORT_DIR)

# ------------------------------------------------------------------ checks

COMPILE_CHECK := $(BIN)/python -m bert_pretrain.compile_check \
  --accelerator_type=$(ACCELERATOR)

compile-check: $(INSTALLED)-compile
	@for recipe in $(RECIPES); do \
	  echo "$$recipe"; \
	  $(COMPILE_CHECK) --flagfile=$$recipe || exit; \
	done

test: $(INSTALLED)-test
	@$(BIN)/python -c 'import torch' 2>/dev/null || echo \
	  "Not checked: that PyTorch, PEFT and others load our files (make torch)."
	@$(BIN)/python -c 'import apache_beam' 2>/dev/null || echo \
	  "Not checked: the builder's engine for Apache Beam (make beam)."
	@$(BIN)/python -c 'import jax' 2>/dev/null || echo \
	  "Not checked: the TPUs' attention kernel (make compile)."
	$(BIN)/python -m pytest -m "not slow"

# The tests that `test` leaves out, after those that it runs.
test-all: test
	@$(BIN)/python -c 'import apache_beam' 2>/dev/null || echo \
	  "Not checked: a whole build on Apache Beam (make beam)."
	@$(BIN)/python -c 'import jax, libtpu' 2>/dev/null || echo \
	  "Not checked: what TPUs are given, computed and compiled (make compile)."
	@command -v chromium >/dev/null || echo \
	  "Not checked: that the report opens in a browser (no chromium here)."
	$(BIN)/python -m pytest -m slow

SCRIPTS := .ci/run $(filter-out launch/vm %.ipynb,$(wildcard launch/* launch/vm/*))

lint: $(INSTALLED)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck --external-sources $(SCRIPTS)

format: $(INSTALLED)-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(OUTPUT) build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -exec rm -rf {} +
