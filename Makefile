# make        builds bin/berth, with its init for linux/amd64 and linux/arm64 inside
# make demo   shows the main job on this very repository
# make test   checks everything; needs a Docker Engine, and sets one up where it can
# make soak   the same tests with the heavy ones at full length
# make bench  measures
# make clean  removes what was built
#
# Nothing but Go and git has to be installed before.

GO       ?= go
VERSION  ?= $(shell git describe --always --dirty --match 'v*' 2>/dev/null || echo unknown)
DEV      := cmd/internal/dev
INITDIR  := images/initbin
INITS    := $(INITDIR)/berth-init-linux-amd64 $(INITDIR)/berth-init-linux-arm64
# Checks use the flags of the build, so that what is compiled serves both.
FLAGS    := -trimpath -buildvcs=false
BUILD    := CGO_ENABLED=0 $(GO) build $(FLAGS)
CHECK    := CGO_ENABLED=0 GOFLAGS='$(strip $(shell $(GO) env GOFLAGS) $(FLAGS))' $(GO)
INITSRC  := $(wildcard cmd/berth-init/*.go runner/control/*.go worktree/overlay/*.go) go.mod
LDFLAGS  := -s -w -X main.version=$(VERSION)
# Two packages at once: more disturb each other's deadlines on few processors.
GOTEST   := $(DEV)/tidy.sh $(GO) test -race -count=1 -p 2
export GO

.PHONY: all build init engine compiler demo test check unit soak bench clean

all: build

build: init
	$(BUILD) -ldflags '$(LDFLAGS)' -o bin/berth ./cmd/berth

init: $(INITS)

$(INITDIR)/berth-init-linux-%: $(INITSRC)
	GOOS=linux GOARCH=$* $(BUILD) -ldflags '-s -w' -o $@ ./cmd/berth-init

# What a fresh machine lacks. Where it is there, both do nothing.
engine:
	@$(DEV)/engine.sh

compiler:
	@$(DEV)/compiler.sh

demo: build engine
	@$(DEV)/demo.sh

test: check unit

check: build
	@files=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .) || exit 1; \
	if [ -n "$$files" ]; then echo "not formatted, run gofmt -w: $$files" >&2; exit 1; fi
	$(CHECK) vet ./...
	GOOS=darwin $(CHECK) vet ./...
	GOOS=darwin $(CHECK) build ./...
	$(CHECK) tool staticcheck ./...

# An engine that is missing is a failure here, and not a reason to skip.
unit: init engine compiler
	BERTH_TEST_ENGINE=required $(GOTEST) -short -timeout 8m ./...

soak: init engine compiler
	BERTH_TEST_ENGINE=required $(GOTEST) -timeout 60m ./...

bench: init engine
	BERTH_TEST_ENGINE=required $(GO) test -run '^$$' -bench . -benchmem ./...

clean:
	rm -rf bin $(INITS)
