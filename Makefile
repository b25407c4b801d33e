# The command surface of MM1. `make help` lists the targets.

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
RUN    ?= toy
STUDY  ?=
PARAMS ?=
PROFILE ?= runs/images.yaml
IMAGE_OPTIONS = --images "$(IMAGES)" --engine "$(ENGINE)" --base-image "$(BASE_IMAGE)" --tag "$(TAG)" --registry "$(REGISTRY)" \
	--profile "$(PROFILE)" $(and $(BUILDER),--builder "$(BUILDER)") --build-args="$(BUILD_ARGS)"

# Compiled modules are kept, whatever the environment says: without them torch and transformers take twice as long to import.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup run ablate serve test lint format compile architecture docs golden drift release-check lock clean images sbom audit test-images test-monitoring test-cluster test-chaos test-infra lint-infra test-gpu bench bench-gpu

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed  ## Virtual environment, locked dependencies (with hashes), this project

# Dependencies first, the project last and without them: hera's wheel and this project both bring bin/hera, the last one stays.
$(VENV)/.installed: requirements.lock requirements-setup.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-setup.lock
	$(BIN)/uv pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --reinstall-package mm1 -e .
	@touch $@

run: setup  ## The whole chain on the toy world: raw data to a served model, and a report (RUN=name PARAMS="-p key=value")
	$(BIN)/mm1 run workflows/full.py --run $(RUN) $(PARAMS)

# The run is named after the studies, so that the same command continues it.
ablate: setup  ## The paper's ablations with verdicts, resumable: a core of studies, or STUDY="names" or STUDY=file.yaml (PARAMS=)
	$(BIN)/mm1 run workflows/ablate.py --run "ablate$(and $(STUDY),-$(subst $() ,-,$(strip $(basename $(notdir $(STUDY))))))" \
		$(if $(STUDY),-p studies="$(STUDY)") $(PARAMS)

serve: setup  ## Serve the newest deployed model on http://127.0.0.1:8000
	$(BIN)/mm1 serve

test: setup  ## All tests that need no cluster and no GPU
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore tests/cluster --ignore tests/images --ignore tests/bench --ignore tests/chaos tests

test-monitoring: setup  ## Alerts with promtool, dashboards on a real Prometheus; skipped without Debian's package prometheus
	$(BIN)/python -m pytest -rs tests/unit/monitoring tests/integration/test_prometheus.py

test-cluster: setup  ## Tests on a real Kubernetes: that of KUBECONFIG, or one that the command in MM1_CLUSTER_UP starts
	$(BIN)/python -m pytest -ra --durations 10 tests/cluster

test-chaos: setup  ## Kill processes of training pipelines at random moments (MM1_CHAOS_KILLS=30 MM1_CHAOS_SEED=0)
	$(BIN)/python -m pytest -s tests/chaos

test-infra: setup  ## Terraform: validate every module and root, their tests, a store created and destroyed (needs terraform)
	MM1_TEST_INFRA=1 $(BIN)/python -m pytest -rs --durations 3 tests/infra

# checkov pins many packages, so it has an environment of its own.
lint-infra:  ## Security rules for Terraform (checkov)
	@test -x build/checkov/bin/checkov || { $(PYTHON) -m venv build/checkov && build/checkov/bin/pip install --quiet checkov==3.3.30; }
	build/checkov/bin/checkov --directory infra/terraform --framework terraform --compact --quiet --skip-download

test-gpu: setup  ## Tests on an NVIDIA GPU of 80 GB; elsewhere they are skipped and say why
	MM1_TEST_GPU=1 $(BIN)/python -m pytest -rs --durations 5 tests/gpu

bench: setup  ## Speeds, each beside what it is compared with, measured in turn
	for file in $(filter-out tests/bench/bench_gpu.py,$(wildcard tests/bench/bench_*.py)); do $(BIN)/python $$file || exit 1; done

bench-gpu: setup  ## Tokens/s and MFU of training steps on an NVIDIA GPU
	$(BIN)/python tests/bench/bench_gpu.py

lint: setup  ## Style, types, import rules, spelling, compiled files up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell
	git ls-files -z '*.yaml' '*.yml' | xargs -0 $(BIN)/yamllint --strict
	$(BIN)/shellcheck .ci/run
	if command -v terraform >/dev/null; then terraform fmt -check -recursive infra; fi
	$(MAKE) --no-print-directory drift

format: setup  ## Format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	if command -v terraform >/dev/null; then terraform fmt -recursive infra; fi

compile: setup  ## Write workflows/compiled and the chart's templates from the workflow files
	$(BIN)/mm1 compile

architecture: setup  ## Draw the packages and their imports: docs/architecture/packages.svg
	$(BIN)/python docs/architecture/draw.py

docs: setup  ## Build the site of the documentation, strictly: build/site
	$(BIN)/uv pip install --quiet --require-hashes -r requirements-docs.lock
	DISABLE_MKDOCS_2_WARNING=true NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

drift: setup  ## Fail if a compiled file or the picture of the packages differs from the code
	$(BIN)/mm1 compile --check
	$(BIN)/python docs/architecture/draw.py --check

golden: setup  ## Write the golden files anew (resolved configurations, loss curves, texts of the commands)
	MM1_UPDATE_GOLDEN=1 $(BIN)/python -m pytest -m golden tests

release-check: setup  ## What is missing for a release: version, changelog, tag, images, chart, wheel, documentation
	$(BIN)/python .ci/release_check.py

lock: setup  ## Resolve the requirements into their locks
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements-setup.in -o requirements-setup.lock
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements.in requirements-dev.in -o requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --constraints requirements.lock requirements-docs.in -o requirements-docs.lock
	for image in cpu trainer; do $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--constraints requirements.lock components/images/$$image/requirements.in -o components/images/$$image/requirements.lock || exit 1; done

images: setup  ## Component images, pinned in PROFILE (ENGINE= BASE_IMAGE= TAG= REGISTRY= IMAGES="cpu trainer" BUILD_ARGS=)
	$(BIN)/python components/images/build.py build $(IMAGE_OPTIONS)

sbom: setup  ## Bills of materials (CycloneDX) of the images: runs/sbom/*.json
	$(BIN)/python components/images/build.py sbom --images "$(IMAGES)"

audit: setup  ## Known vulnerabilities in the locks of the images (the database is online only)
	$(BIN)/python components/images/build.py audit --images "$(IMAGES)"

test-images: images  ## Build the images and run a step in each, in a pod too when there is a cluster (RUN_ARGS=)
	MM1_TEST_IMAGES="$(abspath $(PROFILE))" MM1_IMAGE_RUN_ARGS="$(RUN_ARGS)" $(BIN)/python -m pytest -m images -rs tests/images

clean:  ## Leave a pristine tree
	rm -rf $(VENV) runs build .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name '*.egg-info' -prune -exec rm -rf {} +
