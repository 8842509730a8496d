# The two commands of the README are `make run` and `make test`; both work on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test engine fake-cuda lint docs clean

run: $(STAMP)
	$(BIN)/torchperf-ci run --suites tiny --quick --inference --compilers eager --compilers aot_eager --compilers inductor

# One more than there are CPUs, since many tests wait for processes that sleep. Bytecode is kept, whatever the caller's
# environment says: tests start our Python some hundred times.
test: export PYTHONDONTWRITEBYTECODE =
test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses $$(($$(nproc) + 1)) --dist worksteal -m "not engine"

engine: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m engine

# Optional: needs x86-64 Linux, gcc, and 5 GB for a torch with CUDA (tests/fake_cuda/README.md).
fake-cuda: $(STAMP)
	tests/fake_cuda/build.sh build/fake-cuda
	FAKE_CUDA="$(CURDIR)/build/fake-cuda" $(BIN)/python -m pytest tests/fake_cuda

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.docs --check
	$(BIN)/zizmor --offline --pedantic --quiet action.yml */action.yml actions .github examples/*.yml

docs: $(STAMP)
	$(BIN)/python -m tools.docs

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[bench]" --group dev
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
