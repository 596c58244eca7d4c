# `make` lists the targets. This file needs GNU make.
#
# Variables:
#   CC, CFLAGS, LDFLAGS   as usual
#   SANITIZE              address,undefined or thread
#   DEBUG=1               no optimisation (`make debug` sets it)
#   WERROR=1              warnings are errors
#   V=1                   shows the commands
#   T, K                  choose tests: see test-unit, test-cli, test-http
#   DYGRAPHS              the directory of the page's chart library (/usr/share/javascript/dygraphs)
#   ARGS                  goes to the program that `make run` and `make bench` start
#   BUILD                 the build directory. Each compiler and each kind of build has its own, so objects never mix.
#                         Changed flags rebuild what is in it.

MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:

ifeq ($(origin CC),default)
CC := cc
endif
PYTHON ?= /usr/bin/python3
SANITIZE ?=
DEBUG ?=
comma := ,
variant := $(if $(filter-out cc gcc,$(CC)),-$(notdir $(CC)))$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))$(if $(DEBUG),-debug)
BUILD ?= build$(variant)

# ---- flags -----------------------------------------------------------------------------------------------------------

# pkg-config runs once. A make that this one starts finds the answer in its environment. If a package is missing, the
# answer is empty and make does not keep it, because `make run` and `make test` install packages and start make again.
PACKAGES := libmicrohttpd jansson libpcre2-8 yaml-0.1 nettle libzip libseccomp sqlite3 zlib
ifeq ($(PKG_CONFIG_ANSWER),)
PKG_CONFIG_ANSWER := $(shell pkg-config --cflags --libs $(PACKAGES) hdf5 2>/dev/null)
endif
export PKG_CONFIG_ANSWER
PACKAGE_CFLAGS := $(filter-out -l% -L%,$(PKG_CONFIG_ANSWER))
PACKAGE_LIBS := $(filter-out -lhdf5,$(filter -l% -L%,$(PKG_CONFIG_ANSWER)))
# The program links HDF5's archive if there is one: Debian's shared library needs two dozen others (curl, LDAP, Kerberos).
HDF5_ARCHIVE := $(firstword $(wildcard $(patsubst -L%,%/libhdf5.a,$(filter -L%,$(PKG_CONFIG_ANSWER)))))
HDF5_LIBS := $(if $(HDF5_ARCHIVE),$(HDF5_ARCHIVE) -lsz -lz -ldl,-lhdf5)

TARGET := $(shell $(CC) -dumpmachine 2>/dev/null)
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion $(if $(WERROR),-Werror)
# -ffp-contract=off: only a kernel that asks for it fuses a*b+c, so results do not depend on the compiler.
LANGUAGE := -std=c11 -ffp-contract=off -fno-math-errno -fno-trapping-math -pthread
SANITIZER := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer) \
    $(if $(FUZZER),-fsanitize=fuzzer-no-link)
# These flags make a memory fault harder to exploit (SECURITY.md). tests/cli/test_hardening.py finds them in the program.
HARDENING := $(if $(SANITIZE)$(COVERAGE)$(DEBUG),,-fstack-protector-strong -fstack-clash-protection -D_FORTIFY_SOURCE=2 \
    $(if $(filter x86_64%,$(TARGET)),-fcf-protection=full) $(if $(filter aarch64%,$(TARGET)),-mbranch-protection=standard))
OPTIMISE := $(if $(COVERAGE),-O0 --coverage,$(if $(DEBUG),-O0,$(if $(SANITIZE),-O1,-O2)))
# Only model/ gets -O3: with -O2 outside of kernels/ and generate/, training is 5 to 10 % slower (tests/bench/LOG.md).
OPTIMISE_MODEL := $(if $(COVERAGE)$(SANITIZE)$(DEBUG),$(OPTIMISE),-O3)

CFLAGS ?= -g
LDFLAGS ?= $(if $(SANITIZE),,-Wl$(comma)-z$(comma)relro$(comma)-z$(comma)now)
# A sanitizer and gcov start threads and open files. The sandbox forbids that, so the program then allows it.
ALL_CPPFLAGS := -I. -D_GNU_SOURCE $(if $(SANITIZE)$(COVERAGE),-DLSTMD_INSTRUMENTED) $(PACKAGE_CFLAGS) $(CPPFLAGS)
ALL_CFLAGS := $(LANGUAGE) $(WARNINGS) $(SANITIZER) $(HARDENING)
ALL_LDFLAGS := -pthread $(SANITIZER) $(if $(COVERAGE),--coverage) $(LDFLAGS)
ALL_LDLIBS := $(PACKAGE_LIBS) $(HDF5_LIBS) -lm -ldl $(LDLIBS)

# The files of model/kernels/simd work for any vector width. make compiles each file once for every instruction set, into
# an object of its own. The program chooses an instruction set when it runs.
KERNEL_SETS := portable $(if $(filter x86_64%,$(TARGET)),avx2 avx512 avx512vnni) $(if $(filter aarch64%,$(TARGET)),neon)
KERNEL_SOURCES := $(wildcard model/kernels/simd/*.c)
KERNEL_FLAGS_avx2 := -mavx2 -mfma
KERNEL_FLAGS_avx512 := -mavx512f -mavx512vl -mavx512dq -mavx512bw -mfma
KERNEL_FLAGS_avx512vnni := $(KERNEL_FLAGS_avx512) -mavx512vnni
# avx512vnni takes all other kernels from avx512.
KERNEL_PARTS_avx512vnni := model/kernels/simd/step.c model/kernels/simd/tiles_int8.c
kernel_parts = $(or $(KERNEL_PARTS_$(1)),$(KERNEL_SOURCES))
kernel_files = $(patsubst model/kernels/simd/%.c,$(1)/model/kernels/simd/$(2)/%.$(3),$(call kernel_parts,$(2)))
# gcc needs a sixth of its time to tell a debugger where the variables of unrolled loops are. The code is the same without.
KERNEL_DEBUG := $(if $(findstring clang,$(CC)),,-fno-var-tracking-assignments)
# These files unroll their loops widely. With inline checks the compiler would need a minute for each. So the address
# sanitizer checks by calls. Only model/kernels/ref.c, the same arithmetic in plain loops, is checked for undefined
# behaviour.
ifneq ($(findstring address,$(SANITIZE)),)
KERNEL_SANITIZER += $(if $(findstring clang,$(CC)),-mllvm -asan,--param asan)-instrumentation-with-call-threshold=0
endif
ifneq ($(findstring undefined,$(SANITIZE)),)
KERNEL_SANITIZER += -fno-sanitize=undefined
endif

# ---- sources ---------------------------------------------------------------------------------------------------------

LIBRARY_SOURCES := $(wildcard base/*.c config/*.c model/*/*.c server/*.c server/*/*.c)
CLI_SOURCES := $(wildcard cli/*.c)
UNIT_SOURCES := $(wildcard tests/unit/*/test_*.c)
UNIT_HELPERS := $(filter-out $(UNIT_SOURCES),$(wildcard tests/unit/*.c tests/unit/*/*.c))
FUZZ_SOURCES := $(filter-out tests/fuzz/driver.c,$(wildcard tests/fuzz/*.c))
SOURCES := $(LIBRARY_SOURCES) $(CLI_SOURCES) $(UNIT_SOURCES) $(UNIT_HELPERS) $(wildcard tests/fuzz/*.c)
KERNEL_OBJECTS = $(foreach set,$(KERNEL_SETS),$(call kernel_files,$(BUILD),$(set),o))
HEADERS := $(wildcard base/*.h config/*.h model/*/*.h model/kernels/simd/*.h server/*.h server/*/*.h cli/*.h tests/*/*.h tests/unit/*/*.h)

object = $(1:%.c=$(BUILD)/%.o)
UNIT := $(UNIT_SOURCES:%.c=$(BUILD)/%)
FUZZ := $(FUZZ_SOURCES:%.c=$(BUILD)/%)
INJECT := $(BUILD)/tests/fault/inject.so
PAGE_OBJECT := $(BUILD)/web/files.o
# Where the chart library of the page is: Debian's libjs-dygraphs.
DYGRAPHS ?= /usr/share/javascript/dygraphs

# ---- compile and link ------------------------------------------------------------------------------------------------

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2))

.PHONY: all
all: $(BUILD)/lstmd ## build the program: build/lstmd

.PHONY: debug
debug: ## build build-debug/lstmd without optimisation, for a debugger (also SANITIZE=...), and compile_commands.json
	$(again) all compile_commands.json DEBUG=1

$(BUILD)/lstmd: $(BUILD)/cli/main.o $(BUILD)/libcli.a $(BUILD)/liblstmd.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(ALL_LDLIBS)
	@pkg-config --exists openblas 2>/dev/null || /sbin/ldconfig -p 2>/dev/null | grep -q 'libopenblas\.so\.0' || \
	    echo 'note: no OpenBLAS here: "products openblas" needs libopenblas0-pthread when lstmd runs, not when it is built'

# The commands without main(), so that unit tests can call them.
$(BUILD)/libcli.a: $(call object,$(filter-out cli/main.c,$(CLI_SOURCES)))
$(BUILD)/liblstmd.a: $(call object,$(LIBRARY_SOURCES)) $(KERNEL_OBJECTS) $(PAGE_OBJECT)
$(BUILD)/libcli.a $(BUILD)/liblstmd.a:
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) qcs $@ $^

define compile
	$(call say,CC,$(@:$(BUILD)/%.o=%))
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(OPTIMISE_FILE) $(CFLAGS) -MMD -MP -c -o $@ $<
endef
$(BUILD)/%.o: %.c $(BUILD)/flags
	$(compile)

define kernel_set_rules
$(call kernel_files,$(BUILD),$(1),o): OPTIMISE_FILE = $(OPTIMISE_MODEL) -DSIMD_SET_$(1) $(KERNEL_FLAGS_$(1)) $(KERNEL_SANITIZER) $(KERNEL_DEBUG)
$(BUILD)/model/kernels/simd/$(1)/%.o: model/kernels/simd/%.c $(BUILD)/flags
	$$(compile)
endef
$(foreach set,$(KERNEL_SETS),$(eval $(call kernel_set_rules,$(set))))

# Unit tests can make an allocation or a system call of our code fail: the linker sends these calls to
# tests/unit/support.c. A shared library's own calls do not go there, so these programs link the shared HDF5.
WRAPPED := malloc calloc realloc posix_memalign aligned_alloc strdup strndup \
    open write fsync mkdir rename renameat2 unlink unlinkat rmdir
$(UNIT): %: %.o $(call object,$(UNIT_HELPERS)) $(BUILD)/libcli.a \
    $(BUILD)/liblstmd.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $(WRAPPED:%=-Wl$(comma)--wrap=%) -o $@ $^ $(subst $(HDF5_LIBS),-lhdf5,$(ALL_LDLIBS)) \
	    -lcmocka

# tests/http/inject.py loads this library into a daemon, before libc, to make its calls fail. No sanitizer instruments it,
# because a sanitizer's own allocations pass through it, too.
$(INJECT): tests/fault/inject.c
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -I. -D_GNU_SOURCE -std=c11 $(filter-out -Wpedantic,$(WARNINGS)) -O1 -g -fno-builtin -fPIC -shared -o $@ $< -ldl

# A fuzz target has a main() that replays files, so it needs no libFuzzer. `make fuzz` links libFuzzer's main() instead.
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(if $(FUZZER),,$(BUILD)/tests/fuzz/driver.o) \
    $(BUILD)/tests/unit/interop/zip_support.o $(BUILD)/liblstmd.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $(if $(FUZZER),-fsanitize=fuzzer) -o $@ $^ $(ALL_LDLIBS)

OPTIMISE_FILE = $(OPTIMISE)
$(BUILD)/model/%.o: OPTIMISE_FILE = $(OPTIMISE_MODEL)

# The files that the program serves unchanged. The list is remade if a file changes, appears or goes.
PAGE_FILES := openapi.yaml $(wildcard $(foreach kind,js css svg html d.ts,server/web/*.$(kind))) \
    $(wildcard $(DYGRAPHS)/dygraph.min.*s)
$(BUILD)/web/names: FORCE
	$(call stamp,echo $(DYGRAPHS) $(PAGE_FILES))
$(BUILD)/web/files.c: $(BUILD)/web/names $(PAGE_FILES) scripts/embed
	$(call say,EMBED,$@)
	$(Q)scripts/embed $(@D) $(DYGRAPHS) >$@
$(PAGE_OBJECT): $(BUILD)/web/files.c $(BUILD)/flags
	$(compile)

# One object knows the version, so a new commit compiles one file and links.
$(BUILD)/base/version.o: ALL_CPPFLAGS += -DLSTMD_VERSION='"$(word 1,$(shell cat $(BUILD)/version))"' \
    -DLSTMD_REVISION='"$(word 2,$(shell cat $(BUILD)/version))"'
$(BUILD)/base/version.o: $(BUILD)/version

# Stamp files are rewritten only if their content changes.
export FLAGS_TEXT := $(shell $(CC) --version 2>/dev/null | head -n 1) $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(CFLAGS) \
    $(FUZZER) $(ALL_LDFLAGS) $(ALL_LDLIBS) $(OPTIMISE) $(OPTIMISE_MODEL) $(KERNEL_SANITIZER) $(KERNEL_DEBUG) \
    $(foreach set,$(KERNEL_SETS),$(KERNEL_FLAGS_$(set)))
stamp = @mkdir -p $(@D); $(1) >$@.new; if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
$(BUILD)/flags: FORCE
	$(call stamp,printf '%s\n' "$$FLAGS_TEXT")
$(BUILD)/version: FORCE
	$(call stamp,echo "$$(head -n 1 VERSION) $${LSTMD_REVISION:-$$(scripts/revision)}")
.PHONY: FORCE

-include $(patsubst %.o,%.d,$(call object,$(SOURCES)) $(KERNEL_OBJECTS) $(PAGE_OBJECT))

# ---- the two commands of the README ----------------------------------------------------------------------------------

# A target that installs packages starts make again, because make asks pkg-config at its start.
again = +@$(MAKE) --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 2))

.PHONY: run
run: ## install missing packages, build, serve the bundled model on 127.0.0.1:8080, keep state in ./state (ARGS='--set ...')
	@scripts/deps build
	$(again) all
	@exec scripts/run $(BUILD)/lstmd $(ARGS)

.PHONY: test
test: ## install missing packages, build, run all tests (with sanitizers: SANITIZE=address,undefined or thread)
	@scripts/deps build test
	$(again) test-programs
	@$(RUN_TESTS) unit fuzz cli http

.PHONY: test-programs
test-programs: all $(UNIT) $(FUZZ) $(INJECT)

RUN_TESTS = BUILD='$(BUILD)' SANITIZE='$(SANITIZE)' $(PYTHON) tests/run

# ---- parts of the tests ----------------------------------------------------------------------------------------------

# T=sampler is tests/unit/*/test_sampler; if there is none, it is every unit program whose path contains the word.
unit_like = $(strip $(foreach program,$(UNIT),$(if $(findstring $(1),$(program)),$(program))))
UNIT_CHOSEN := $(if $(T),$(or $(filter %/$(T) %/test_$(T),$(UNIT)),$(call unit_like,$(T))),$(UNIT))

.PHONY: test-unit unit
unit: test-unit
test-unit: $(UNIT_CHOSEN) ## unit tests: all, or T=sampler (a program, or a part of its path), K='*seed*' (names of tests)
	@[ -n '$(UNIT_CHOSEN)' ] || { echo "no unit program matches T=$(T)" >&2; exit 1; }
	@$(RUN_TESTS) $(if $(K),-k '$(K)') $(if $(T),$(UNIT_CHOSEN:%=-p %)) unit

.PHONY: test-cli
test-cli: all ## tests of the commands: all, or K='import and not keras' (an expression of pytest's -k)
	@$(RUN_TESTS) $(if $(K),-k '$(K)') cli

.PHONY: test-http
test-http: all $(INJECT) ## tests of the running daemon: all, or K='queue or limits'
	@$(RUN_TESTS) $(if $(K),-k '$(K)') http

CHURN_SECONDS ?= 60
.PHONY: soak
soak: all ## long tests: a thousand clients that leave and return (CHURN_SECONDS=60), 10,000 connections at once, 30 kills, a corpus of 1 GiB, 20 swaps under 10,000 requests
	@LSTMD='$(BUILD)/lstmd' CHURN_CLIENTS=1000 CHURN_SECONDS=$(CHURN_SECONDS) $(PYTHON) -m pytest -q -s -p no:cacheprovider \
	    tests/http/test_churn.py
	@LSTMD='$(BUILD)/lstmd' CONNECTIONS=10000 $(PYTHON) -m pytest -q -s -p no:cacheprovider tests/http/test_connections.py
	@LSTMD='$(BUILD)/lstmd' TRAIN_KILLS=30 $(PYTHON) -m pytest -q -s -p no:cacheprovider -k kill tests/http/test_train_life.py
	@LSTMD='$(BUILD)/lstmd' TRAIN_KILLS=30 $(PYTHON) -m pytest -q -s -p no:cacheprovider -k kill tests/http/test_datasets.py
	@LSTMD='$(BUILD)/lstmd' LARGE_MIB=1024 $(PYTHON) -m pytest -q -s -p no:cacheprovider tests/http/test_datasets.py -k memory
	@LSTMD='$(BUILD)/lstmd' LARGE_MIB=1024 $(PYTHON) -m pytest -q -s -p no:cacheprovider tests/cli/test_train_corpora.py -k large_corpus
	@LSTMD='$(BUILD)/lstmd' LARGE_MIB=1024 $(PYTHON) -m pytest -q -s -p no:cacheprovider tests/http/test_train_disk.py -k large_corpus
	@LSTMD='$(BUILD)/lstmd' SWAP_REQUESTS=10000 SWAPS=20 $(PYTHON) -m pytest -q -s -p no:cacheprovider -k hot_swap \
	    tests/http/test_models.py

SOAK_SECONDS ?= 1800
.PHONY: soak-mixed
soak-mixed: all ## all kinds of requests at once, beside training, swaps and reloads (SOAK_SECONDS=1800): memory, descriptors, p99
	@LSTMD='$(BUILD)/lstmd' SOAK_SECONDS=$(SOAK_SECONDS) $(PYTHON) -m pytest -q -s -p no:cacheprovider tests/http/test_soak.py

.PHONY: faults
faults: all $(INJECT) ## each call of the daemon fails once in each possible way, and kills it once (an hour or two)
	@LSTMD='$(BUILD)/lstmd' FAULTS=all $(PYTHON) -m pytest -q -s -p no:cacheprovider tests/http/test_faults.py tests/http/test_crash.py

.PHONY: fuzz-smoke
fuzz-smoke: all $(FUZZ) ## run every fuzz target over its committed inputs and a few thousand mutations
	@$(RUN_TESTS) fuzz

.PHONY: golden
golden: ## compute tests/golden/data again with PyTorch and h5py (their tests: make unit test-cli)
	@scripts/deps golden
	$(PYTHON) tests/golden/make_golden.py
	$(PYTHON) tests/golden/make_torch_import.py
	$(PYTHON) tests/golden/make_keras.py
	$(PYTHON) tests/golden/make_casing.py

FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz: ## search with libFuzzer under the sanitizers, FUZZ_SECONDS=60 per target (FUZZ_TARGETS='utf8 yaml': only these)
	@scripts/deps build fuzz
	$(again) fuzz-search CC=clang SANITIZE=address,undefined FUZZER=1 BUILD=build-fuzz

.PHONY: fuzz-long
fuzz-long: ## search with libFuzzer in idle time, 30 minutes per target, and write each result into tests/fuzz/LOG.md (a night)
	@scripts/deps build fuzz
	$(again) fuzz-search CC=clang SANITIZE=address,undefined FUZZER=1 BUILD=build-fuzz \
	    FUZZ_SECONDS=1800 SEARCH='chrt -i 0 $(PYTHON) tests/fuzz/search --record tests/fuzz/LOG.md'

SEARCH := $(PYTHON) tests/fuzz/search
.PHONY: fuzz-search
fuzz-search: all $(FUZZ)
	@$(SEARCH) $(BUILD) $(FUZZ_SECONDS) $(FUZZ_TARGETS)

FUZZ_SEED ?= $(shell date +%s)
.PHONY: fuzz-socket
fuzz-socket: ## attack the running daemon at its socket under the sanitizers, SECONDS=60, FUZZ_SEED=the time
	@scripts/deps build test
	$(again) fuzz-socket-search SANITIZE=address,undefined

.PHONY: fuzz-socket-search
fuzz-socket-search: all
	@LSTMD='$(BUILD)/lstmd' SANITIZE='$(SANITIZE)' $(PYTHON) tests/fuzz/socket_fuzzer.py --seconds $(or $(SECONDS),60) \
	    --seed $(FUZZ_SEED) --out $(BUILD)/fuzz-socket

.PHONY: coverage
coverage: ## line coverage of the tests, per file (gcov)
	@scripts/deps build test
	$(again) coverage-run COVERAGE=1 CC=gcc BUILD=build-coverage

.PHONY: coverage-run
coverage-run: test-programs
	@find $(BUILD) -name '*.gcda' -delete
	@$(RUN_TESTS) unit fuzz cli http; status=$$?; tests/coverage $(BUILD); exit $$status

# ---- checks ----------------------------------------------------------------------------------------------------------

CHECKED := $(SOURCES) $(KERNEL_SOURCES) $(HEADERS) tests/fault/inject.c

.PHONY: check
check: ## format, gcc and clang warnings as errors, clang-tidy, layering, names of files (tests are `make test`)
	@scripts/deps build test check
	$(again) check-format check-layers check-references check-gcc check-clang check-tidy check-isa check-circles \
	    check-scripts
	@echo 'check: all good'

.PHONY: check-format
check-format:
	$(Q)clang-format --dry-run -Werror $(CHECKED)

.PHONY: check-layers
check-layers:
	$(Q)tests/check_layers
	$(Q)scripts/rooms --check

.PHONY: check-references
check-references:
	$(Q)tests/check_references

.PHONY: check-gcc check-clang
check-gcc check-clang: check-%:
	+$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)/check-$* CC=$* WERROR=1 SANITIZE= objects

.PHONY: objects
objects: $(call object,$(SOURCES)) $(KERNEL_OBJECTS) $(PAGE_OBJECT)

# clang-tidy takes seconds per file, so each file has a stamp, which is newer than the file and all our headers.
TIDY := $(patsubst %.c,$(BUILD)/tidy/%.ok,$(LIBRARY_SOURCES) $(CLI_SOURCES))
TIDY_KERNELS := $(foreach set,$(KERNEL_SETS),$(call kernel_files,$(BUILD)/tidy,$(set),ok))
.PHONY: check-tidy
check-tidy: $(TIDY) $(TIDY_KERNELS)
define tidy
	$(call say,TIDY,$(@:$(BUILD)/tidy/%.ok=%))
	@mkdir -p $(@D)
	$(Q)clang-tidy --quiet $< -- $(ALL_CPPFLAGS) -std=c11 $(TIDY_FLAGS) -DLSTMD_VERSION='""' -DLSTMD_REVISION='""' 2>$@.log \
	    || { grep -v 'warnings generated' $@.log >&2; exit 1; }
	@touch $@
endef
$(BUILD)/tidy/%.ok: %.c .clang-tidy $(HEADERS)
	$(tidy)
define kernel_set_tidy
$(BUILD)/tidy/model/kernels/simd/$(1)/%.ok: TIDY_FLAGS = -DSIMD_SET_$(1) $(KERNEL_FLAGS_$(1))
$(BUILD)/tidy/model/kernels/simd/$(1)/%.ok: model/kernels/simd/%.c .clang-tidy $(HEADERS)
	$$(tidy)
endef
$(foreach set,$(KERNEL_SETS),$(eval $(call kernel_set_tidy,$(set))))

# Editors and clang tools read this file. `make -n` prints the commands of all objects, so the flags are the true ones.
.PHONY: compile_commands.json
compile_commands.json: $(BUILD)/flags $(BUILD)/version ## write compile_commands.json, for editors and clang tools
	@$(MAKE) --no-print-directory -nB V=1 objects | $(PYTHON) scripts/compile-commands >$@.new && mv $@.new $@

.PHONY: check-isa
check-isa: check-gcc
	$(Q)tests/check_isa $(BUILD)/check-gcc

.PHONY: check-circles
check-circles: check-gcc
	$(Q)tests/check_circles $(BUILD)/check-gcc

.PHONY: check-scripts
check-scripts:
	$(Q)$(PYTHON) tests/check_scripts.py

.PHONY: check-deep
check-deep: ## gcc's -fanalyzer and cppcheck over the program; a file explains each false finding (a minute or two)
	@scripts/deps build check
	$(Q)nice tests/check_deep $(ALL_CPPFLAGS)

.PHONY: format
format: ## clang-format every C file in place
	clang-format -i $(CHECKED)

# ---- container -------------------------------------------------------------------------------------------------------

.PHONY: image
image: ## build the container image localhost/lstmd with buildah (BASE=...: another base image)
	buildah bud --format docker $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg REVISION=$(shell scripts/revision) \
	    --build-arg VERSION=$(shell head -n 1 VERSION) -t localhost/lstmd -f docker/Dockerfile .

.PHONY: test-container
test-container: ## make a Debian base, build the image from it, run the daemon in it and ask it (a few minutes; needs root)
	@tests/container $(BUILD)/container

# ---- installing ------------------------------------------------------------------------------------------------------

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
INSTALLED := $(DESTDIR)$(PREFIX)
CONFIG := $(DESTDIR)$(SYSCONFDIR)/lstmd/lstmd.yaml

.PHONY: install
install: all ## install program, manual, model, configuration, systemd unit (DESTDIR, PREFIX=/usr/local, SYSCONFDIR=/etc)
	install -D $(BUILD)/lstmd $(INSTALLED)/bin/lstmd
	scripts/manual $(BUILD)/lstmd >$(BUILD)/lstmd.1
	sed -i 's|/usr/share|$(PREFIX)/share|; s|/etc/lstmd|$(SYSCONFDIR)/lstmd|' $(BUILD)/lstmd.1
	install -D -m 644 $(BUILD)/lstmd.1 $(INSTALLED)/share/man/man1/lstmd.1
	install -D -m 644 cli/lstmd.bash-completion $(INSTALLED)/share/bash-completion/completions/lstmd
	install -d $(INSTALLED)/share/lstmd/models/headlines
	install -m 644 model/pretrained/headlines/* $(INSTALLED)/share/lstmd/models/headlines/
	sed 's|model/pretrained|$(PREFIX)/share/lstmd/models|; s|^  state_dir: ~|  state_dir: /var/lib/lstmd|; s|config/lstmd.yaml|$(SYSCONFDIR)/lstmd/lstmd.yaml|' \
	    config/lstmd.yaml >$(BUILD)/lstmd.yaml
	[ -e $(CONFIG) ] || install -D -m 644 $(BUILD)/lstmd.yaml $(CONFIG)
	sed 's|/usr/bin|$(PREFIX)/bin|; s|/etc/lstmd|$(SYSCONFDIR)/lstmd|' docker/lstmd.service >$(BUILD)/lstmd.service
	install -D -m 644 $(BUILD)/lstmd.service $(INSTALLED)/lib/systemd/system/lstmd.service

.PHONY: uninstall
uninstall: ## remove the files of `make install`, except the configuration
	rm -f $(INSTALLED)/bin/lstmd $(INSTALLED)/share/man/man1/lstmd.1 \
	    $(INSTALLED)/share/bash-completion/completions/lstmd $(INSTALLED)/lib/systemd/system/lstmd.service
	rm -rf $(INSTALLED)/share/lstmd/models/headlines

.PHONY: deb
deb: ## make a Debian package: build/lstmd_VERSION_ARCH.deb
	@scripts/deps build package
	$(again) all
	@MAKE='$(MAKE)' scripts/deb $(BUILD)

# ---- more ------------------------------------------------------------------------------------------------------------

.PHONY: deps
deps: ## install the packages that building, testing and checking need (apt)
	@scripts/deps build test check

.PHONY: bench
bench: all ## make the benchmark table: this machine's limits, installed peers, lstmd (ARGS=--quick: a first look)
	@BUILD='$(BUILD)' PYTHON='$(PYTHON)' tests/bench/run $(ARGS)

.PHONY: screenshots
screenshots: ## take the pictures of the page in docs/ again, with the bundled model in Chromium (a minute)
	@scripts/deps build test pictures
	$(again) all
	@$(PYTHON) scripts/screenshots $(BUILD)/lstmd

LSTMD_SHARED ?= ../shared
HEADLINES := $(LSTMD_SHARED)/data/ag_news
.PHONY: pretrained
pretrained: all ## train the bundled model again with the recipe model/pretrained/headlines.yaml (minutes)
	for part in train valid; do scripts/titles <$(HEADLINES)/titles.$$part.txt >$(BUILD)/titles.$$part.txt || exit 1; done
	$(BUILD)/lstmd train --config model/pretrained/headlines.yaml --data $(BUILD)/titles.train.txt \
	    --validation-data $(BUILD)/titles.valid.txt --out model/pretrained/headlines

.PHONY: reference
reference: all ## write docs/settings.md from the program's table of settings
	scripts/reference $(BUILD)/lstmd >$(BUILD)/settings.md
	mv $(BUILD)/settings.md docs/settings.md

.PHONY: benchmarks
benchmarks: ## write the figures in README.md and docs/ from tests/bench/LOG.md
	scripts/benchmarks .

.PHONY: clean
clean: ## remove everything that make built
	rm -rf build build-* compile_commands.json

.PHONY: help
help: ## print this list
	@sed -n 's/^\([a-z_.-]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | \
	    while IFS='	' read -r target text; do printf '  %-21s %s\n' "$$target" "$$text"; done
