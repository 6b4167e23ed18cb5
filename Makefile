# make demo   the main job on the embedded default: no cloud, no cluster
# make test   unit and compatibility tests, the chart, the manifests
# make help   everything else
.DEFAULT_GOAL := help
SHELL := /bin/bash

include build/Makefile.inc

LDFLAGS = -s -w -X main.version=$(VERSION)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sort | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: build
build: ## bin/coffre, static
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o bin/coffre ./cmd/coffre

.PHONY: demo
demo: build ## mount the examples from an encrypted document, change it, see the new version arrive
	@tools=$$(test/tools/sops/build.sh) && test/demo/demo.sh bin/coffre "$$tools"

.PHONY: demo-vault
demo-vault: build ## the same on Vault's own core: KV, a dynamic credential, a certificate
	@tools=$$(test/tools/vault/build.sh) && test/demo/vault.sh bin/coffre "$$tools"

.PHONY: test
test: unit chart-test check-manifests image-test ## all tests that need no cluster

.PHONY: unit
unit: ## vet and test every package
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	@# Everything is built before anything is timed: on a cold cache the
	@# compiler would keep both cores busy while tests wait for answers.
	@test/tools/sops/build.sh >/dev/null
	@test/tools/vault/build.sh >/dev/null
	@command -v openssl >/dev/null || { apt-get update -qq && apt-get install -y --no-install-recommends openssl; }
	@command -v keytool >/dev/null || echo "left out here: what keytool reads of Java keystores (TestKeytoolReadsWhatIsWritten), for there is no JDK"
	@go test -run '^$$' ./... >/dev/null
	go test -timeout 10m ./...

.PHONY: race
race: ## the same tests under the race detector, benchmarks aside; needs a C compiler
	@command -v gcc >/dev/null || { apt-get update -qq && apt-get install -y --no-install-recommends gcc libc6-dev; }
	@test/tools/vault/build.sh >/dev/null
	CGO_ENABLED=1 go test -race -timeout 20m $$(go list ./... | grep -v /test/bench)

# SEEDS random runs of the chaos test; each prints how to take it again.
SEEDS ?= 10
.PHONY: chaos
chaos: ## thousands of random faults, each run with a seed of its own
	go test ./test/chaos -seed 0 -count $(SEEDS) -timeout 60m

# FORM=short is what continuous integration takes: a case of every kind.
FORM ?= full
.PHONY: hostile
hostile: ## the release in its 128 MiB, attacked with all that a tenant can write; needs root and cgroups
	go test ./test/hostile -count 1 -timeout 30m -v -form $(FORM)

.PHONY: e2e
e2e: ## test on a real Kubernetes with the upstream driver; needs root, or KUBECONFIG
	test/e2e/run

# Every parser that a tenant can reach. FUZZTIME=5m for a longer look; by
# number of runs, for go's fuzzer may call its own end of time a failure.
FUZZTIME ?= 10000x
FUZZ = provider:FuzzMount provider/budget:FuzzCompile provider/request:FuzzParse provider/strict:FuzzDecode provider/dialect/coffre:FuzzPlan provider/dialect/aws:FuzzPlan provider/dialect/gcp:FuzzPlan provider/dialect/azure:FuzzPlan provider/dialect/vault:FuzzPlan \
	provider/render:FuzzFormats provider/render:FuzzFiles provider/certificate:FuzzParse provider/template:FuzzTemplate provider/jmespath:FuzzSearch provider/store/sops:FuzzDocument

.PHONY: fuzz
fuzz: ## fuzz every parser that a tenant can reach, FUZZTIME each
	@for target in $(FUZZ); do \
		echo "== $$target"; \
		go test ./$${target%%:*} -run '^$$' -fuzz "^$${target##*:}\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x || exit 1; \
	done

# MINUTES of everything at once, drawn from SEED; 0 draws a seed and prints it.
MINUTES ?= 10
SEED ?= 0
.PHONY: soak
soak: ## the release in its 128 MiB under rotation, outages and restarts, judged by an oracle; needs root and cgroups
	go test ./test/soak -count 1 -timeout 120m -v -minutes $(MINUTES) -seed $(SEED)

.PHONY: bench
bench: ## latency, allocations and memory of mounts
	go test ./test/bench -run '^$$' -bench . -benchmem

.PHONY: bench-rotation
bench-rotation: ## a simulated hour of 100 pods: what the store is asked, what a republish costs
	go test ./test/bench -run TestAnHourOfRotation -count=1 -v

.PHONY: bench-scale
bench-scale: ## 5,000 nodes drawn from one measured node, against the clouds' quotas
	go test ./test/bench -run TestScale -count=1 -v

.PHONY: clean
clean: ## remove what was built here
	rm -rf bin dist
