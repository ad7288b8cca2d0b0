# What one does with Overlock, by hand and in CI. `make help` lists it.

SHELL := /bin/bash
SWIFT ?= swift
PREFIX ?= /usr/local
SEEDS ?= 200
OPERATIONS ?= 400
JOBS ?= $(shell nproc)
RELEASE := .build/release
ORACLE := python3 Tests/oracle/oracle.py --jobs $(JOBS) --worlds plain,overlock

.PHONY: help build test lint format bench check demo oracle torture install uninstall clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

build: ## the library and the command, in .build/release
	$(SWIFT) build -c release
	@# SwiftPM cannot name an executable and a library alike.
	ln -sf overlock-cli $(RELEASE)/overlock

test: ## sets up, builds, and runs every test suite
	.ci/setup
	.ci/suites build unit coverage exports programs oracle oracle2 locks locks-shared watches user crash crash-user crash-locks crash-watches crash-check

lint: ## swift-format, findings are errors
	.ci/suites lint

format: ## swift-format, in place
	$(SWIFT) format --in-place --recursive Sources Tests Package.swift

bench: build ## against a plain directory, kernel overlayfs and fuse-overlayfs
	benchmarks/bench.sh

check: ## what CI runs
	.ci/run

demo: build ## real programs change a directory, and it does not change
	examples/demo/run.sh

oracle: build ## random operations, compared with a plain directory: SEEDS, OPERATIONS, SEED
	$(ORACLE) --library $(RELEASE)/liboverlock.so --seed $(or $(SEED),1) \
	  --seeds $(SEEDS) --operations $(OPERATIONS)

torture: build ## hours of the oracle with new seeds, and a kill at every step
	$(SWIFT) build
	python3 Tests/oracle/crash.py --library .build/debug/liboverlock.so
	python3 Tests/oracle/crash.py --library .build/debug/liboverlock.so --unprivileged
	python3 Tests/oracle/locks_crash.py --library .build/debug/liboverlock.so --jobs $(JOBS)
	python3 Tests/oracle/locks.py --library $(RELEASE)/liboverlock.so --seed $(or $(SEED),$$RANDOM$$RANDOM) \
	  --seeds $(or $(TORTURE_SEEDS),5000) --steps 200 --jobs $(JOBS)
	python3 Tests/oracle/locks_shared.py --library $(RELEASE)/liboverlock.so --seed $(or $(SEED),$$RANDOM$$RANDOM) \
	  --seeds $(or $(TORTURE_SEEDS),5000) --steps 200
	LIMIT_S=600 KILLS=20000 STORM_SIGNALS=200000 LEAK_CYCLES=10000 SEED=$(or $(SEED),$$RANDOM) \
	  Tests/programs/run.sh --only locks
	$(ORACLE) --library $(RELEASE)/liboverlock.so --seed $(or $(SEED),$$RANDOM$$RANDOM) \
	  --seeds $(or $(TORTURE_SEEDS),5000) --operations 1000
	$(ORACLE) --library $(RELEASE)/liboverlock.so --seed $(or $(SEED),$$RANDOM$$RANDOM) \
	  --seeds $(or $(TORTURE_SEEDS),5000) --operations 1000 --unprivileged

# The command in a build of its own: with the Swift runtime linked in, it needs no toolchain to run.
install: build ## into PREFIX (and DESTDIR)
	$(SWIFT) build -c release --product overlock-cli --scratch-path .build-install --static-swift-stdlib
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib
	install -s .build-install/release/overlock-cli $(DESTDIR)$(PREFIX)/bin/overlock
	install -m 644 $(RELEASE)/liboverlock.so $(RELEASE)/liboverlock-audit.so $(DESTDIR)$(PREFIX)/lib

uninstall: ## what install put into PREFIX
	rm -f $(DESTDIR)$(PREFIX)/bin/overlock $(DESTDIR)$(PREFIX)/lib/liboverlock.so \
	  $(DESTDIR)$(PREFIX)/lib/liboverlock-audit.so

clean: ## all build products
	rm -rf .build .build-install
