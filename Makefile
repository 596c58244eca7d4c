# lstmd: `make` lists the targets.
BUILD ?= build
CC ?= cc
SANITIZE ?=
PACKAGES = libmicrohttpd jansson openblas yaml-0.1 nettle

CPPFLAGS += -I. -D_GNU_SOURCE -DLSTMD_VERSION='"0.1.0"' $(shell pkg-config --cflags $(PACKAGES))
CFLAGS ?= -O2 -g
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion
CFLAGS += -std=c11 $(WARNINGS) -fno-math-errno -fno-trapping-math -pthread $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer)
LDLIBS += $(shell pkg-config --libs $(PACKAGES)) -lm -pthread

SOURCES := $(wildcard base/*.c config/*.c model/*.c server/*.c)
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
CLI := $(patsubst %.c,$(BUILD)/%.o,$(wildcard cli/*.c))
UNIT := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))

help:
	@echo 'all  unit'
all: $(BUILD)/lstmd
$(BUILD)/lstmd: $(CLI) $(BUILD)/liblstmd.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/liblstmd.a: $(OBJECTS)
	rm -f $@ && ar rcs $@ $^
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(BUILD)/liblstmd.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
$(BUILD)/model/kernels_avx2.o: CFLAGS += -mavx2 -mfma
$(BUILD)/model/kernels_avx512.o: CFLAGS += -mavx512f -mavx512vl -mavx512dq -mavx512bw -mfma
$(BUILD)/model/kernels_%.o: CFLAGS += -O3 -ffp-contract=off
# orthogonal initialisation of large layers
$(BUILD)/model/network.o: CFLAGS += -O3
unit: $(UNIT)
	@for t in $(UNIT); do $$t || exit 1; done
.PHONY: help all unit
.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
