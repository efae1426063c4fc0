# The two commands of a newcomer are `make run` and `make test`; both set up what is missing first.
#   make run ARGS='rtsp://door.local/1 headless'   arguments go to run_kiosk.py
#   make test ARGS='-k mtcnn'                      arguments go to pytest
#   make test-all                                  the suite on every supported Python found here
#   make test-plugin HEADERS=DIR                   the TensorRT plugin against the headers in DIR (README)
#   make lint                                      ruff, mypy and import-linter (Python 3.11 or newer)
#   make PYTHON=python3.8 VENV=.venv-3.8 test      another Python
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
PYTHONS ?= 3.6 3.8 3.10 3.13

.PHONY: run test test-all test-plugin lint models setup setup-dev clean

run: models
	@$(VENV)/bin/python run_kiosk.py $(ARGS)

test: setup-dev models
	$(VENV)/bin/python -m pytest $(ARGS)

test-all:
	@scripts/test-all $(PYTHONS)

test-plugin: setup-dev
	HEADERS=$(HEADERS) TENSORRTS=$(TENSORRTS) $(VENV)/bin/python -m pytest tests/engines/plugin $(ARGS)

lint: setup-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

setup:
	@scripts/setup $(PYTHON) $(VENV) requirements.txt

setup-dev:
	@scripts/setup $(PYTHON) $(VENV) requirements-dev.txt

# run_kiosk.py makes sure of its models, too; here they are made ready with all the time that a download takes.
models: setup
	@wanted="$$(cat config.yaml engines/models/catalogue.yaml | cksum) $$KIOSK_MODELS"; \
	[ -d engines/models/built ] && [ "$$wanted" = "$$(cat $(VENV)/models-ready 2>/dev/null)" ] || \
	{ $(VENV)/bin/python build_engines.py && echo "$$wanted" > $(VENV)/models-ready; }

clean:
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache engines/models/built
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
