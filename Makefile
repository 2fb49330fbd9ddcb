# `make help` lists the targets; docs/commands.md explains them.

SHELL := /bin/bash
# make splits paths at spaces and targets at colons; it would create the virtual environment somewhere else.
UNFIT := $(shell pwd -P | tr -d 'A-Za-z0-9/._+@=,~\n-' | LC_ALL=C tr -d '\200-\377' | wc -c)
ifneq ($(UNFIT),0)
$(error expected a checkout whose path has letters, digits and /._+@=,~- only, found '$(CURDIR)'; clone it to another folder)
endif
VENV := $(CURDIR)/.venv
PYTHON ?= python3
export PATH := $(VENV)/bin:$(PATH)
# Where it is set, as in many containers, every process compiles all modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv prerequisites setup numa acceptance all-tests rerun nightly soak nightly-table compatibility test test-kvm test-debug-kernel kubernetes-e2e seeded-faults fuzz bench-lab quick lint unit-fast unit docs manifests build-image load-image deploy undeploy up down status clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/.complete: requirements.txt dra-driver/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(f"expected Python 3.11 or newer, found {sys.version.split()[0]}; name another: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install -y --no-install-recommends python3-venv; } || { echo 'python3-venv is missing; install it: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -r requirements.txt -r dra-driver/requirements.txt
	$(VENV)/bin/pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

venv: $(VENV)/.complete ## create the virtual environment from requirements.txt

prerequisites: venv ## install missing system packages as root, otherwise name them
	@packages="$$(python -m mock_device.lab.build.prerequisites)" || exit 1; \
	if [ -n "$$packages" ]; then \
	  if [ "$$(id -u)" = 0 ]; then \
	    echo "installing:" $$packages; \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$packages; \
	  else echo "missing; install them as root: apt-get install" $$packages >&2; exit 1; fi; \
	fi

setup: prerequisites ## build everything that a cluster needs, or take it from the cache
	@lab build

numa: setup ## run suites/numa.robot on a real two-node cluster; report in results/
	robot --outputdir results suites/numa.robot

# CLUSTERS run at once, of TOPOLOGIES (empty: those that the suites need).
# ARGS: suites, --cold, and after -- options of robot.
CLUSTERS ?= 2
TOPOLOGIES ?=
ARGS ?=

acceptance: setup ## run all suites side by side on a pool of CLUSTERS=2 clusters; report in results/
	@acceptance --clusters $(CLUSTERS) $(TOPOLOGIES:%=--topology %) $(ARGS)

all-tests: setup ## run acceptance, then print a summary: passed, failed, skipped, each suite, duration
	@python -m mock_device.acceptance.all_tests --clusters $(CLUSTERS) $(TOPOLOGIES:%=--topology %) $(ARGS)

rerun: setup ## run again what failed last time; merge it into results/, keep the first failure
	@acceptance --rerun --clusters $(CLUSTERS) $(TOPOLOGIES:%=--topology %) $(ARGS)

# `make nightly` runs the suites ROUNDS times on each topology.
ROUNDS ?= 3
NIGHTLY = python -m mock_device.acceptance.nightly --rounds $(ROUNDS) $(TOPOLOGIES:%=--topology %)

TEST_KVM = python tests/kvm_in_emulation.py
TEST_DEBUG_KERNEL = python tests/debug_kernel.py
KUBERNETES_E2E = python -m mock_device.acceptance.kubernetes_e2e

nightly: setup ## run all suites on all topologies ROUNDS=3 times, test-kvm, test-debug-kernel, kubernetes-e2e; table of flaky tests in results/nightly/
	@$(NIGHTLY) --clusters $(CLUSTERS) $(ARGS); code=$$?; \
	$(if $(TOPOLOGIES),,for step in "$(TEST_KVM)" "$(TEST_DEBUG_KERNEL)" "$(KUBERNETES_E2E)"; do \
	  [ $$code = 130 ] || $$step >&2 || { last=$$?; [ $$code != 0 ] && [ $$last != 130 ] || code=$$last; }; \
	done;) exit $$code

soak: setup ## run the short suites five times in random order, every second time beside a busy neighbour
	@python -m mock_device.acceptance.soak --clusters $(CLUSTERS) $(ARGS)

nightly-table: venv ## make that table again from results/nightly/, for example of several machines
	@$(NIGHTLY) --table $(ARGS)

compatibility: venv ## write docs/compatibility.md from the rounds in results/nightly/: suites by version of Kubernetes
	@python -m mock_device.acceptance.compatibility results/nightly/*/output.xml

test: setup ## run every check and every suite; ends with `N passed, N failed`
	@python tests/run.py

test-kvm: setup ## run the lab on KVM inside an emulated guest, 25 minutes at most; ARGS=--cluster runs a whole cluster
	@$(TEST_KVM) $(ARGS)

test-debug-kernel: prerequisites ## run the module's tests in a kernel with KASAN, lockdep and fault injection; ARGS='-k locks' selects tests
	@$(TEST_DEBUG_KERNEL) $(ARGS)

kubernetes-e2e: setup ## run Kubernetes' own tests of DRA, at most three hours; ARGS="--focus REGEX" runs some; table in results/
	@$(KUBERNETES_E2E) $(ARGS)

seeded-faults: setup ## seed each fault of tests/suites_notice/faults.yaml; table of the tests that notice them; CLUSTERS=2
	@python tests/seeded_faults.py --clusters $(CLUSTERS) $(ARGS)

fuzz: venv ## send the device server a million random messages and attacks; ARGS='--seed N' repeats a run
	@python vfio-user/tests/fuzz_server.py $(ARGS)

bench-lab: setup ## measure starts, restores, memory and runs into results/; 20 minutes, run nothing else
	@python tests/bench/bench_lab.py $(ARGS)

quick: venv ## lint and unit-fast at the same time; about a minute
	@$(MAKE) --no-print-directory -j2 lint unit-fast

lint: venv ## check style, types, imports, suites
	@python tests/run.py --only lint

unit-fast: venv ## run the unit tests that boot nothing
	@python tests/run.py --only unit-fast

unit: venv ## run all unit tests
	@python tests/run.py --only unit

docs: venv ## generate docs/keywords from the keywords' documentation
	@python -m mock_device.acceptance.keyword_docs

manifests: venv ## generate the plain manifests from charts/mock-device
	@python -m mock_device.lab.build.chart

build-image: ## build the DRA driver's image
load-image: ## load that image onto the nodes of the running cluster
deploy: ## deploy the driver on the running cluster
undeploy: ## remove the driver from the running cluster
build-image load-image deploy undeploy: venv
	@$(MAKE) --no-print-directory -C dra-driver $@

up: ## start the cluster `default`, or that of LAB_CLUSTER
down: ## stop it
status: ## show it
up down status: venv
	@lab $@

clean: ## remove what runs wrote; keep the cache
	rm -rf results/* .mypy_cache .ruff_cache .pytest_cache
