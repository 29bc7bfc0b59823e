# make        builds bin/berth, with its init for linux/amd64 and linux/arm64 inside
# make demo   shows the main job on this very repository
# make test   checks everything; needs a Docker Engine, and sets one up where it can
#
# Nothing but Go and git has to be installed before.

GO       ?= go
VERSION  ?= $(shell git describe --always --dirty --match 'v*' 2>/dev/null || echo unknown)
INITDIR  := images/initbin
INITS    := $(INITDIR)/berth-init-linux-amd64 $(INITDIR)/berth-init-linux-arm64
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false
INITSRC  := $(wildcard cmd/berth-init/*.go runner/control/*.go) go.mod
LDFLAGS  := -s -w -X main.version=$(VERSION)

.PHONY: all build init engine demo test check unit bench clean

all: build

build: init
	$(BUILD) -ldflags '$(LDFLAGS)' -o bin/berth ./cmd/berth

init: $(INITS)

$(INITDIR)/berth-init-linux-%: $(INITSRC)
	GOOS=linux GOARCH=$* $(BUILD) -ldflags '-s -w' -o $@ ./cmd/berth-init
