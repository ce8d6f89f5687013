# make demo   trains five optimizers from 1 % of the weights and compares them
# make test   runs the tests of the library on one backend
# make test-all   on every backend, and the long ones, marked `once`, on the last
# make lint   checks style and types
# make fuzz   calls all there is with nonsense, for MINUTES=30
# make docs   builds the documentation into build/site
# make notebooks  runs the examples of the documentation and keeps what they say
# make bench  times the optimizers against Keras' own
# make experiments  lists every table and figure there is to train
# make report       writes them from the result files
# make dist        builds wheel and sdist into dist, and checks them
# make check-dist  installs them elsewhere and uses them
# make coverage    says which lines of keras_bregman no test runs
# make mutation    breaks the optimizers in every small way; the tests notice
# make test-lowest runs the core tests on the lowest supported versions
# make test-newest the same on the newest that the package index has
# make clean       removes environments and what tools wrote; in build stay
#                  trained networks, checkpoints and changed runs
#
# Each sets up its own environment in .venv first, from the package index.
#
#   PYTHON=python3.12     another interpreter (3.11 to 3.13)
#   DATA=mnist            another dataset for the demo
#   ARGS="--seeds 0 1 2"  more arguments, for the demo and the tests; all of
#                         these take --help and, to keep what they find, --out
#   BACKENDS="jax torch"  other backends for test and bench; test takes the first

PYTHON ?= python3
VENV ?= .venv
RELEASE := build/release
DATA ?= digits
ARGS ?=
BACKENDS ?= tensorflow jax torch
MINUTES ?= 30

comma := ,
empty :=
space := $(empty) $(empty)
extras := $(subst $(space),$(comma),$(sort tensorflow $(BACKENDS)))
core_tests := $(patsubst %,tests/test_%.py,callbacks compaction flops freezing \
	golden hazards keras_features kernels optimizers pruning regularizers sparse_file \
	sparse_start sparsity target_density)
names := $(subst $(comma),-,$(extras))
test_ready := $(VENV)/.ready-test-$(names)
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check install -q \
	-c requirements/pins.txt
export TF_CPP_MIN_LOG_LEVEL ?= 3
export NO_MKDOCS_2_WARNING ?= 1

.PHONY: demo test test-all fuzz lint docs notebooks bench experiments report \
	clean dist check-dist coverage mutation test-lowest test-newest

demo: $(VENV)/.ready-demo
	$(VENV)/bin/python -m experiments demo --data $(DATA) $(ARGS)

experiments: $(VENV)/.ready-demo
	$(VENV)/bin/python -m experiments list

report: $(VENV)/.ready-demo
	$(VENV)/bin/python -m experiments report

first := $(firstword $(BACKENDS))

test: $(test_ready)
	$(VENV)/bin/python -m tests.tools.suite --quick --backends $(first) $(ARGS)

test-all: $(test_ready)
	$(VENV)/bin/python -m tests.tools.suite --backends $(BACKENDS) $(ARGS)

coverage: $(test_ready)
	$(VENV)/bin/python -m tests.tools.suite --coverage --backends $(BACKENDS) $(ARGS)

fuzz: $(test_ready)
	KERAS_BACKEND=$(first) $(VENV)/bin/python -m tests.tools.fuzz \
		--minutes $(MINUTES) $(ARGS)

lint: $(test_ready)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(test_ready)
	KERAS_BACKEND=$(first) $(VENV)/bin/mkdocs build -q --strict

notebooks: $(test_ready)
	KERAS_BACKEND=tensorflow $(VENV)/bin/jupyter nbconvert --to notebook \
		--execute --inplace docs/examples/*.ipynb

bench: $(test_ready)
	@set -e; for backend in $(BACKENDS); do \
		KERAS_BACKEND=$$backend $(VENV)/bin/python -m experiments bench step; \
		KERAS_BACKEND=$$backend $(VENV)/bin/python -m experiments bench fit; \
	done

dist: $(RELEASE)/bin/twine
	rm -rf dist
	$(RELEASE)/bin/python -m build
	$(RELEASE)/bin/twine check --strict dist/*

check-dist: dist
	$(PYTHON) tests/tools/check_dist.py dist --python $(PYTHON) \
		--backends $(BACKENDS)

mutation: $(test_ready)
	KERAS_BACKEND=$(first) $(VENV)/bin/python -m tests.tools.mutate $(ARGS)

test-lowest test-newest: test-%: build/%/.ready-$(names)
	@set -e; for backend in $(BACKENDS); do \
		echo "== $$backend"; \
		KERAS_BACKEND=$$backend build/$*/bin/python -m pytest -q -n auto \
			$(core_tests); \
	done

$(RELEASE)/bin/twine: requirements/release.txt
	@$(PYTHON) -m venv $(RELEASE)
	@$(RELEASE)/bin/python -m pip --disable-pip-version-check install -q -r $<

# the newest have no file of versions: `make clean` forgets them
build/%/.ready-$(names): setup.py requirements/lowest.txt
	@$(PYTHON) -m venv --clear build/$*
	@build/$*/bin/python -m pip --disable-pip-version-check install -q \
		$(patsubst %,-c %,$(wildcard requirements/$*.txt)) \
		-e '.[$(extras),plot,test]' scikit-learn
	@touch $@

$(VENV)/.ready-demo: setup.py requirements/pins.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV), about a minute"
	@$(PIP) -e '.[tensorflow,experiments,tune]'
	@touch $@

$(test_ready): setup.py requirements/pins.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV), a minute or two"
	@$(PIP) -e '.[$(extras),experiments,tune,export,dev]'
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "This needs Python 3.11 to 3.13; $(PYTHON) is `$(PYTHON) -V 2>&1`. Name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) dist *.egg-info $(addprefix build/,bdist.* compiled lib \
		lowest newest release site suite)
