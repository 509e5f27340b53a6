# Everything runs in .venv, which is made on first use and again when pyproject.toml changes.

PYTHON ?= python3
ARGS ?=
READY = .venv/.ready

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*  ## /  make \1 /p' Makefile

run: $(READY)  ## start zmock; ARGS="--port 0" passes flags
	.venv/bin/python zmock.py $(ARGS)

test: $(READY)  ## run the tests; ARGS="-k vm" passes flags to pytest
	.venv/bin/python -m pytest -q $(ARGS)

check: $(READY)  ## what has to pass before a change goes in: ruff, then the tests
	.venv/bin/ruff check
	@$(MAKE) --no-print-directory test

$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "zmock needs Python 3.11 or newer, and there is no $(PYTHON); name one with make PYTHON=..."; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "zmock needs Python 3.11 or newer, not $$($(PYTHON) -V); name one with make PYTHON=..."; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv .venv
	@.venv/bin/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*p["dependencies"], *p["optional-dependencies"]["test"], sep="\n")' > .venv/needed.txt
	.venv/bin/pip install -q --disable-pip-version-check -r .venv/needed.txt
	@touch $@

.PHONY: help run test check
