# Every target that a person calls has one line of help behind ##.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PROGRAMS := wardd wardctl wardunlock wardrelease wardfleet wardlab
# Nothing of Ward uses cgo: with or without a C compiler the same is built and tested.
export CGO_ENABLED := 0
BIN := bin
FUZZTIME ?= 10s
SMOKE := 1000x
BENCHTIME ?= 1s
DRILL ?=
VERSION ?= 0.1.0
# HTTP/2 is left out: nothing here speaks it, and it is half a megabyte. Functions
# begin at multiples of 4 bytes, not of 32: a sixth of a megabyte.
BUILD := CGO_ENABLED=0 go build -tags nethttpomithttp2 -trimpath -buildvcs=false -ldflags '-s -w -funcalign=4 -buildid= -X ward/internal/daemon.version=$(VERSION)'

# The programs of a device are compiled without inlining: almost a megabyte. What takes
# time there (SHA-256, curves) is assembly and stays as it is.
DEVICE := wardd wardctl wardunlock
SMALL := -gcflags=all=-l

.PHONY: help deps build test fmt vet staticcheck unit nested peers device demo drills crash bench microbench fuzz fuzz-smoke raised docs lint yocto-modules yocto-parse clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install the Debian packages that are missing, or say which they are
	@scripts/deps

build: ## build the programs into bin/, static, stripped and without paths
	@mkdir -p $(BIN)
	@for p in $(PROGRAMS); do \
		case " $(DEVICE) " in *" $$p "*) small='$(SMALL)' ;; *) small= ;; esac; \
		$(BUILD) $$small -o $(BIN)/$$p ./cmd/$$p; \
	done
	@ls -l $(addprefix $(BIN)/,$(PROGRAMS)) | awk '{ printf "  %9d  %s\n", $$5, $$NF }'

test: deps lint nested unit fuzz-smoke raised device ## run every check and test, with a boot of the virtual device

lint: fmt vet staticcheck ## check form: gofmt, vet, staticcheck

fmt:
	@unformatted=$$(find . -name '*.go' -not -path './.*' -not -path '*/testdata/*' -print0 | xargs -0 gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w on:" $$unformatted >&2; exit 1; fi

vet:
	@go vet -tags device,crash ./...

staticcheck:
	@go tool -modfile=tools/go.mod staticcheck -tags device,crash ./...

unit: ## run the unit tests: packages, commands, architecture rules, requirements, generated documents
	@go test ./...

# go mod verify stumbles over a module that is replaced by a folder.
nested: ## check the modules inside this one; the comparison with peers in its short form
	@for m in $$(find . -mindepth 2 -name go.mod -not -path './.*' -not -path '*/testdata/*'); do \
		d=$$(dirname $$m); grep -q '^replace ward ' $$m || go -C $$d mod verify >/dev/null; \
		if [ -n "$$(go -C $$d list ./... 2>/dev/null)" ]; then go -C $$d vet ./...; go -C $$d test -short ./...; fi; \
	done

peers: deps ## compare with other programs over real and changed logs, lists and quotes, and print the table
	@mkdir -p bin
	@rm -f bin/peers.txt
	@go -C internal/peers test -count=1 . -table ../../bin/peers.txt
	@cat bin/peers.txt

device: deps ## boot the virtual device and test the whole path
	@go test -tags device -count=1 -timeout 25m -v -run "^TestDevice" ./internal/lab

demo: deps ## show the main job on the virtual device: boot, verdict, three attacks
	@go run ./cmd/wardlab demo

drills: deps ## run every attack drill, or those that DRILL names
	@go run ./cmd/wardlab drill $(DRILL)

crash: deps ## run the long campaigns against crashes, some half an hour; WARD_SEED chooses another course
	@go test -tags crash -count=1 -timeout 60m -v -run '^TestCrash' ./internal/device/wal ./internal/crash ./internal/agent/uplink
	@go run ./cmd/wardlab drill journal-power-cuts

bench: deps ## measure against the budgets and beside other programs, and print the table; docs/benchmarks.md reads it
	@rm -f bin/bench.txt
	@mkdir -p bin
	@go -C internal/peers test -count=1 -timeout 20m -run '^TestMeasure$$' ./bench -measure ../../../bin/bench.txt
	@cat bin/bench.txt

microbench: ## run the benchmarks of the packages
	@go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./internal/format/... ./internal/trust/... ./internal/device/... ./internal/fleet/...

fuzz: ## fuzz every parser for FUZZTIME each, and stop at the first input that fails
	@scripts/fuzz $(FUZZTIME)

fuzz-smoke: ## fuzz every parser with a few inputs, as the tests do
	@scripts/fuzz $(SMOKE)

raised: ## prove that each finding has a test that fails when it is not raised
	@go test -count=1 -timeout 20m -run '^TestEveryFindingIsRaised$$' ./internal/regulatory -prove

docs: ## write the generated documents: FINDINGS.md, CONFIG.md, the manual pages
	@WARD_DOCS=write go test -count=1 -run 'Current$$' ./internal/... ./cmd/...

yocto-modules: ## write the list of Go modules that the Yocto layer downloads, from go.mod
	@scripts/yocto-modules >.ward-modules.inc && mv .ward-modules.inc yocto/meta-ward/recipes-security/ward/ward-modules.inc

yocto-parse: ## parse the Yocto layer with bitbake: make yocto-parse OECORE=dir BITBAKE=dir
	@scripts/yocto-parse "$(OECORE)" "$(BITBAKE)"

clean: ## remove what was built: bin/ and the lab's cache
	@rm -rf bin .lab .cache
