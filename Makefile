# make demo   watch the shipped policy do eight tasks, with a report of how often it succeeds
# make test   set up for development and run the tests
#
# Both set up .venv first; a second run finds that done. PYTHON chooses the interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
POLICY ?= beso
TASKS ?= all
BIN := .venv/bin
GL_PACKAGES := libegl1 libgl1 libgl1-mesa-dri libosmesa6

.PHONY: setup setup-dev demo test lint
.DELETE_ON_ERROR:

setup: .venv/.core .venv/.rendering

setup-dev: .venv/.dev .venv/.rendering

demo: setup
	$(BIN)/tongs eval policy=$(POLICY) task=$(TASKS) episodes=10 output=outputs/demo resume=false
	@echo "The report: $(CURDIR)/outputs/demo/report.html"

test: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# --- how .venv is made

# A Python without ensurepip (Debian without python3-venv) cannot make an environment; uv can.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Tongs needs Python 3.10 or newer, and $(PYTHON) is not; name one: make setup PYTHON=python3.11"; exit 1; }
	@if $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then $(PYTHON) -m venv .venv; \
	elif command -v uv >/dev/null; then uv venv --python $(PYTHON) .venv; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update && apt-get install -y python3-venv && $(PYTHON) -m venv .venv; \
	else echo "$(PYTHON) cannot make environments; run: sudo apt-get install -y python3-venv"; exit 1; fi

define install
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then $(BIN)/python -m pip install -c constraints.txt -e '$(1)'; \
	else uv pip install --python $(BIN)/python -c constraints.txt -e '$(1)'; fi
	@touch $@
endef

.venv/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,.)

.venv/.dev: .venv/.core
	$(call install,.[dev])

.venv/.rendering: | .venv/.core
	@probe='from sim.rendering import choose; print("rendering with", choose())'; \
	if $(BIN)/python -c "$$probe" 2>/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update && apt-get install -y --no-install-recommends $(GL_PACKAGES) && $(BIN)/python -c "$$probe"; \
	else echo "MuJoCo cannot render here; run: sudo apt-get install -y $(GL_PACKAGES)"; exit 1; fi
	@touch $@
