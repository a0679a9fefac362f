# The verbs. `make quickstart` and `make test` need python3 (3.11 or newer), make and a C compiler.
PYTHON ?= python3
LOCK ?= lock/d3rlpy.txt
VENV ?= .venv
BIN := $(VENV)/bin
# d3rlpy pins Gymnasium 1.0.0, and TorchRL's example needs 1.1: each is tested with its own lock.
comma := ,
TESTED := $(if $(findstring d3rlpy,$(LOCK)),d3rlpy,torchrl)$(comma)llm$(comma)sb3$(comma)test

.PHONY: quickstart test test-all check speed cards oracle lock clean

quickstart: $(VENV)/quickstart  ## logs, a language model as the user, an agent of each family
	$(BIN)/python examples/quickstart.py

test: check  ## lint, types and the quick tests
	$(BIN)/pytest -n 2 -q

test-all: $(VENV)/test-all  ## the long tests: kills, Spark (needs Java 17)
	$(BIN)/pytest -n 2 -q -m long

check: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/types && mkdir -p build/types/recgym  # as installed: one package
	ln -s $(CURDIR)/recgym/* build/types/recgym/
	ln -s $(CURDIR)/agents build/types/recgym/agents
	ln -s $(CURDIR)/datasets/prepare build/types/recgym/datasets
	$(BIN)/mypy

speed: $(VENV)/test  ## every speed claim, as JSON lines
	for script in speed/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

cards: $(VENV)/test  ## render the numbers of cards and READMEs
	$(BIN)/python datasets/render.py

oracle: $(VENV)/test  ## measure the oracle again: is it what is frozen?
	$(BIN)/python datasets/oracle.py --check

$(VENV)/quickstart: pyproject.toml $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(LOCK) -e '.[llm,plots,shop]'
	touch $@

$(VENV)/test: pyproject.toml $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(LOCK) -e '.[$(TESTED)]'
	touch $@

$(VENV)/test-all: $(VENV)/test
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(LOCK) -e '.[spark,$(TESTED)]'
	touch $@

lock:  ## both constraint files, from what pip resolves today
	for set in d3rlpy newest; do \
	  rm -rf build/lock && $(PYTHON) -m venv build/lock && \
	  build/lock/bin/pip install --quiet torch==2.13.0 -e ".[$$(test $$set = d3rlpy && echo d3rlpy,)all,spark,test]" && \
	  build/lock/bin/pip freeze --exclude-editable | sed 's/+cpu//' > lock/$$set.txt || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
