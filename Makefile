# Everything runs in .venv, which is made on first use, and brought up to date when pyproject.toml changes.

export PYTHONDONTWRITEBYTECODE =  # each process would compile zmock, and what pytest rewrites, anew

PYTHON ?= python3
READY = .venv/.ready

help:  ## this list
	@awk -F ':.*  ## ' '/^[a-z]+:.*  ## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

# As a module it starts sooner: Python keeps the bytecode of modules.
run: $(READY)  ## start zmock; ARGS="--port 0" passes flags
	@exec .venv/bin/python -m zmock $(ARGS)

test: $(READY)  ## run the tests; ARGS="-k volume" passes flags to pytest
	.venv/bin/python -m pytest -q -n auto --dist worksteal $(ARGS)

check: $(READY)  ## what a change has to pass: ruff, mypy, then the tests
	.venv/bin/ruff check
	.venv/bin/mypy
	@$(MAKE) --no-print-directory test

crash: $(READY)  ## kill it in the middle of its work, ROUNDS=200 times, and look what is left
	ROUNDS=$(or $(ROUNDS),200) .venv/bin/python -m pytest -q tests/test_crash.py -k kills

slow: $(READY)  ## the tests that take longer: the package in fresh environments, the whole contract, more clouds and queries
	.venv/bin/python -m pytest -q -m slow -n auto --dist loadfile $(ARGS)

bench: $(READY)  ## how fast it is, beside a bare aiohttp server
	@PYTHONPATH=. .venv/bin/python tests/bench.py
	@PYTHONPATH=. .venv/bin/python tests/bench_fixture.py

$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "zmock needs Python 3.11 or newer, which $(PYTHON) is not; name one: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) lacks venv; on Debian or Ubuntu: apt install python3-venv" >&2; exit 2; }
	@echo "making .venv with aiohttp, tinydb and what the tests need" >&2
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*p["dependencies"], *p["optional-dependencies"]["test"], sep="\n")' > .venv/needed.txt
	@.venv/bin/python -m pip install -q --disable-pip-version-check -r .venv/needed.txt
	@touch $@

.PHONY: help run test check slow crash bench
