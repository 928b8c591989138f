# Everything a developer runs here. `make` alone lists it.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# Without a v: 1.2.3 for what is tagged v1.2.3, else 1.2.4-next and the commit.
VERSION ?= $(shell sh tools/version.sh)
LDFLAGS  = -s -w -X catbird/internal/obs.version=$(VERSION)
BIN     := bin
TOOLS   := .tools

# Tests share one PostgreSQL and one Redis: those that TEST_DATABASE_URL and
# TEST_REDIS_URL name, or some that are started for the run, and installed by
# apt where that is possible and nothing is there.
SERVERS := go run ./internal/tools/withservers --
TEST    := go test -p 2 -timeout 15m

.PHONY: help run build test vet lint fmt bench model soak chaos smoke release fuzz cover clean tools chart image rehearse version

help: ## List what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: build ## Start a cluster in one process, replay recorded groups while nodes stop and die, keep it up
	@exec $(BIN)/catbird-server dev

build: ## Build catbird-server and catbirdctl into bin/
	@mkdir -p $(BIN)
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

# The chart lies outside the module of its tests: a cached result may be that of an
# earlier chart.
test: vet ## Check the code, then run all tests, with the race detector, on SQLite, PostgreSQL and Redis
	$(SERVERS) $(TEST) -race ./...
	$(SERVERS) $(TEST) -race -tags broken -run Caught ./internal/broken
	cd charts/test && go vet ./... && ../../$(TOOLS)/staticcheck ./... && go test -count=1 ./...

vet: $(TOOLS)/staticcheck
	@out="$$(gofmt -l $$(git ls-files '*.go'))"; test -z "$$out" || { echo "not formatted (make fmt):"; echo "$$out"; exit 1; }
	go vet ./...
	go vet -tags broken ./internal/broken
	$(TOOLS)/staticcheck ./...

lint: vet $(TOOLS)/gofumpt ## Check format, vet, staticcheck and gofumpt
	@out="$$($(TOOLS)/gofumpt -l $$(git ls-files '*.go'))"; test -z "$$out" || { echo "not formatted (make fmt):"; echo "$$out"; exit 1; }

fmt: $(TOOLS)/gofumpt ## Format the code
	$(TOOLS)/gofumpt -w $$(git ls-files '*.go')

bench: ## Measure what must be reached, as ratios, and print the table (FIGURES="P1 P4": only those)
	go run ./internal/tools/bench $(FIGURES)

# The time that everything in a release is given: that of the commit.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)
release: ## Build archives for four platforms, lists of their parts, the chart and checksums into dist/
	rm -rf dist
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) go run ./internal/tools/release

smoke: ## Try a deployment out through its clients' port (URL=https://…, with JWT_SECRET set, KEYS=file or TOKEN=file; HEALTH=no: only /xrpc is passed on)
	@test -n "$(URL)" || { echo "make smoke URL=https://…: the clients' port of what is to be tried out"; exit 2; }
	@mkdir -p $(BIN) && CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/catbirdctl
	@$(BIN)/catbirdctl smoke --url "$(URL)" $(if $(KEYS),--keys "$(KEYS)") $(if $(TOKEN),--token "$(TOKEN)") \
		$(if $(filter no,$(HEALTH)),--without-health)

# Its settings are variables that the program reads: docs/chaos.md lists them.
chaos: ## Let a cluster go through faults while clients use it, and judge it (CHAOS_SECONDS=120, CHAOS_SEED=…; CHAOS_PLANNED=true: planned changes)
	go run ./internal/tools/chaos

soak: ## Run a cluster at full load for long, and see whether what it uses levels off (SOAK_SECONDS=600)
	go run ./internal/tools/soak

model: ## Check the models of docs/model, with each safeguard and without (LONG=1: the larger runs too; RUNS='claim/*': only those)
	nice -n 10 go run ./internal/tools/model $(if $(LONG),-long) $(if $(TRAIL),-trail) $(foreach run,$(RUNS),'$(run)')

# go test fuzzes one target of one package at a time.
FUZZTIME ?= 10s
fuzz: ## Run every fuzz target for a short while (FUZZTIME=10s each)
	@git grep -l '^func Fuzz' -- '*_test.go' | while read -r file; do \
		dir="./$$(dirname "$$file")"; \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "$$dir $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir" || exit 1; \
		done; \
	done

cover: ## Measure what the tests reach, over all packages
	$(SERVERS) $(TEST) -coverpkg=./... -coverprofile=coverage.out ./...
	@go tool cover -func=coverage.out | tail -n 1

# Helm and Kubernetes' types have a module of their own as well.
chart: ## Make the plain manifests, the chart's table of values and the plans that are rehearsed anew from charts/catbird
	cd charts/test && go run ./cmd/generate
	cd charts/test && go run ./cmd/rehearsal -kept ../../internal/rehearsal/testdata

rehearse: ## Rehearse what Kubernetes does to the chart's pods, without Kubernetes (VALUES=my.yaml: with these values; UPGRADE=new.yaml: and an upgrade to those)
	@mkdir -p $(BIN)
	cd charts/test && go run ./cmd/rehearsal $(abspath $(VALUES)) >$(CURDIR)/$(BIN)/plan.json
	$(if $(UPGRADE),cd charts/test && go run ./cmd/rehearsal $(abspath $(UPGRADE)) >$(CURDIR)/$(BIN)/upgrade.json)
	go run ./internal/tools/rehearse $(BIN)/plan.json $(if $(UPGRADE),$(BIN)/upgrade.json)

IMAGE     ?= catbird
PLATFORMS ?=
image: ## Build the container image IMAGE:VERSION (PUSH=1: and push it; PLATFORMS=linux/amd64,linux/arm64 PUSH=1: for several)
	docker $(if $(PLATFORMS),buildx build --platform $(PLATFORMS) $(if $(PUSH),--push),build) \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null) -t $(IMAGE):$(VERSION) .
	$(if $(PUSH),$(if $(PLATFORMS),,docker push $(IMAGE):$(VERSION)))

version: ## Say what the version is
	@echo $(VERSION)

clean: ## Remove what was built
	rm -rf $(BIN) $(TOOLS) dist coverage.out

# The tools have a module of their own, so that their needs do not mix with
# the service's.
tools: $(TOOLS)/staticcheck $(TOOLS)/gofumpt

$(TOOLS)/staticcheck $(TOOLS)/gofumpt: tools/go.mod tools/go.sum
	go -C tools build -o $(CURDIR)/$(TOOLS)/ tool
	@touch $(TOOLS)/staticcheck $(TOOLS)/gofumpt
