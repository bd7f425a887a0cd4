# `make run` and `make test` are the two commands; each sets itself up in a private .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
INSTALL := $(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode --python $(BIN)/python
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links
ARGS   ?=

.PHONY: run test check format lock screenshots clean

run: $(VENV)/run.stamp
	exec $(BIN)/python manage.py quickstart $(ARGS)

# What customers' libraries do is tested here for certain; by hand, without their environment, it is skipped.
test: $(VENV)/dev.stamp $(VENV)/clients.stamp
	CRAZYROUTER_TESTS_REQUIRE="clients,$$CRAZYROUTER_TESTS_REQUIRE" $(BIN)/python -m tests.run $(ARGS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy .
	$(BIN)/python -m tests.check_deploy
	$(BIN)/python manage.py openapi --check

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pictures of the README, on a fresh `make run`; needs Chromium.
screenshots: $(VENV)/dev.stamp
	$(BIN)/python -m tests.browser.screenshots

# The lock files name no index and no host: they install from whatever registry the machine uses.
lock: $(VENV)/uv.stamp
	$(COMPILE) requirements/bootstrap.in -o requirements/bootstrap.txt
	$(COMPILE) pyproject.toml -o requirements/base.txt
	$(COMPILE) pyproject.toml --extra dev -c requirements/base.txt -o requirements/dev.txt
	$(COMPILE) requirements/clients.in -o requirements/clients.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/uv.stamp: requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("crazyrouter needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

# The dev set contains the run set, so a checkout prepared for tests runs as it is.
$(VENV)/run.stamp: $(VENV)/uv.stamp requirements/base.txt
	@test -e $(VENV)/dev.stamp || $(INSTALL) requirements/base.txt
	@touch $@

$(VENV)/dev.stamp: $(VENV)/uv.stamp requirements/base.txt requirements/dev.txt
	$(INSTALL) requirements/dev.txt
	@touch $@ $(VENV)/run.stamp

# An environment of its own: what a customer's library pins is no business of ours.
$(VENV)/clients.stamp: $(VENV)/uv.stamp requirements/clients.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/clients
	$(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode --python $(VENV)/clients/bin/python requirements/clients.txt
	@touch $@
