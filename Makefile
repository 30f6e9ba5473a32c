# The commands of this project. "make help" says what each does.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# programs that the lab uses; a shell of "su" does not have them in its PATH
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

PREFIX ?= /usr/local
SEED ?=
ARGS ?=
LAB := node build/lab/main.js

.PHONY: help deps deps-tests deps-node build check unit e2e test demo lab-up lab-down sim bench soak clean install uninstall

help: ## show this
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

deps: ## install what is missing (says what first); needs root only if Debian packages are missing
	@scripts/deps.sh

deps-tests: # that, and what only the end-to-end tests need
	@scripts/deps.sh --tests

deps-node: # what building needs, without the lab's programs
	@scripts/deps.sh --node-only

build: deps-node ## compile to build/ and bundle the programs to dist/
	@node scripts/build.mjs

check: deps-node ## types, formatting, lint
	@node scripts/test.mjs check

unit: deps-node ## build, and run the tests that need no root
	@node scripts/test.mjs build unit

e2e: deps-tests ## build, and run the end-to-end tests; FILE=name for some of them
	@node scripts/test.mjs build e2e -- $(FILE)

test: deps-tests ## all: build, check, unit tests, end-to-end tests
	@node scripts/test.mjs build check unit e2e

demo: deps build ## five hosts, a stack, an update, a rollback, a killed leader: on real containers
	@node build/lab/demo.js $(ARGS)

lab-up: deps build ## bring up five hosts and leave them running; ARGS="--managers 1 --workers 1"
	@$(LAB) up $(ARGS)

lab-down: deps-node ## remove them
	@[ -f build/lab/main.js ] || node scripts/build.mjs
	@$(LAB) down $(ARGS)

sim: build ## run the simulator; SEED=n repeats a run
	@node build/test/sim/main.js $(SEED)

bench: deps build ## measure, beside the engine's own Swarm mode
	@node build/bench/main.js $(ARGS)

soak: deps build ## the tests that take long
	@node scripts/test.mjs soak

clean: ## remove what was built
	rm -rf build dist .build .tap coverage

install: build ## place swarmd and swarmctl below PREFIX (/usr/local), with units and completion
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install.sh

uninstall: ## remove all of that
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" FORCE="$(FORCE)" scripts/uninstall.sh
