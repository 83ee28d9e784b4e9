# "make test" is everything a change has to pass; "make help" lists the targets.
# Go and make are all that is needed, and a C compiler for the race detector.

SHELL := bash
GO ?= go

FUZZTIME ?= 10s
# Statement coverage that each of COVER_GATED must reach, in per cent.
COVER_MIN ?= 95
COVER_GATED := shm seqlock registry codec torqbridge transport/tcp

COVER_DIR := $(CURDIR)/out/cover
# internal/model enumerates millions of states on one goroutine: counters and the
# race detector would slow it and say nothing.
UNIT_PKGS = $(shell $(GO) list ./... | grep -v -e /tests -e /internal/model)
COVER_PKGS = $(shell $(GO) list ./... | grep -v -e /tests -e /internal/model | paste -sd, -)
# The packages that a pointer into a mapping passes through.
CHECKPTR_PKGS := ./seqlock ./shm ./internal/segment ./internal/control
# Packages beside whose code lie tests that only the build tag failpoint compiles.
FAILPOINT_PKGS = $(shell grep -rl --include='*_test.go' '^//go:build .*failpoint' . | grep -v '^./tests/' | xargs -r dirname | sort -u)
CRASH_PKGS = $(shell $(GO) list -tags failpoint ./tests/... | grep -v /tests$$)

# Tests whose processes, killed ones too, write their counters to COVER_DIR.
COUNTED = $(GO) test -count=1 -covermode=atomic -coverpkg=$(COVER_PKGS) -exec 'env GOCOVERDIR=$(COVER_DIR)'
COUNTED_ARGS = -args -test.gocoverdir=$(COVER_DIR)
WITHOUT_PERCENT = 2>&1 | sed -e '/^warning: no packages being tested depend/d' -e '/^[[:space:]]*\(github.*\|\)coverage: /d' -e 's/[[:space:]]*coverage: .*//'

STAGES := lint rules unit failpoint crash-smoke cover-gate race checkptr fuzz arm64

.PHONY: help test $(STAGES) cover crash demo demo-tcp bench bench-link rollback-drill build docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## every check, under 10 minutes on 2 cores
	@scripts/stages.sh $(STAGES)

lint: ## gofmt, vet and staticcheck
	@test -z "$$(gofmt -l .)" || { echo "gofmt -w these:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

rules: ## imports, files, comments, generated documents (tests/*_test.go)
	$(GO) test -count=1 ./tests

unit: $(COVER_DIR) ## the tests beside the code, with coverage counters
	@rm -f $(COVER_DIR)/*
	@set -o pipefail; $(COUNTED) -timeout 240s $(UNIT_PKGS) $(COUNTED_ARGS) $(WITHOUT_PERCENT)
	$(GO) test -count=1 -timeout 240s ./internal/model/...

failpoint: $(COVER_DIR) ## build, vet and staticcheck with the tag failpoint, and the tests that need it
	$(GO) vet -tags failpoint ./...
	$(GO) tool staticcheck -tags failpoint ./...
	@set -o pipefail; $(COUNTED) -tags failpoint -timeout 240s ./internal/failpoint $(FAILPOINT_PKGS) $(COUNTED_ARGS) $(WITHOUT_PERCENT)

crash-smoke: $(COVER_DIR) ## kill and stop processes under load, small figures (tests/...)
	@set -o pipefail; $(COUNTED) -tags failpoint -timeout 300s $(CRASH_PKGS) $(COUNTED_ARGS) $(WITHOUT_PERCENT)

cover-gate: ## judge the counters that unit, failpoint and crash-smoke left
	@scripts/cover.sh $(COVER_DIR) $(COVER_MIN) $(COVER_GATED)

cover: ## unit, failpoint and crash-smoke, then the coverage of each package
	@scripts/stages.sh unit failpoint crash-smoke cover-gate

# Without GORACE every process sleeps a second before it ends.
race: ## the tests beside the code under the race detector (needs a C compiler)
	@scripts/need-cc.sh "the race detector"
	CGO_ENABLED=1 GORACE=atexit_sleep_ms=0 $(GO) test -race -count=1 -timeout 300s $(UNIT_PKGS)

checkptr: ## the packages that use unsafe, every conversion of a pointer checked
	$(GO) test -count=1 -timeout 300s -gcflags=all=-d=checkptr $(CHECKPTR_PKGS)

fuzz: ## every fuzz target for FUZZTIME (10s)
	@scripts/fuzz.sh $(FUZZTIME)

arm64: ## vet and build for arm64
	GOARCH=arm64 $(GO) vet ./...
	GOARCH=arm64 $(GO) build ./...

crash: ## the crash tests at their large figures; ARGS=-run=NAME for one of them
	$(GO) test -count=1 -v -tags failpoint -timeout 3h ./tests/crash -crash.large $(ARGS)
	$(GO) test -count=1 -v -timeout 3h ./transport/tcp -run TestLinkSimulator -sim.seeds=20000

rollback-drill: build ## a domain of Torq to the bus and back under load; prints what arrived
	$(GO) test -count=1 -v ./tests/drill -drill.program $(CURDIR)/bin/myceliumctl $(ARGS)

build: ## bin/myceliumctl
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

demo: build ## real messages through shared memory, in 10 seconds
	@bin/myceliumctl demo $(ARGS)

demo-tcp: build ## topics across two hosts on one machine, the link cut and healed in the middle
	@bin/myceliumctl forward demo $(ARGS)

bench: build ## latency and throughput between pinned processes, beside their floors; the codec on one core
	bin/myceliumctl bench latency
	bin/myceliumctl bench latency --idle park
	bin/myceliumctl bench throughput
	bin/myceliumctl bench throughput --size 256
	bin/myceliumctl bench throughput --size 1024
	bin/myceliumctl bench throughput --subscribers 3
	@scripts/bench-codec.sh
	$(GO) test ./torqbridge -run xxx -bench . -benchtime 1x

bench-link: build ## a link beside NATS core and plain TCP, in one run (tests/peers)
	cd tests/peers && $(GO) run . -bin $(CURDIR)/bin/myceliumctl $(ARGS)

docs: ## write the generated documents anew from the tables of keys and types
	$(GO) test -count=1 ./tests -run 'Test.*ReferenceIsCurrent' -update

clean: ## remove what the other targets made
	rm -rf bin out

# Children that run as another user write here too.
$(COVER_DIR):
	@mkdir -p $@ && chmod 1777 $@
