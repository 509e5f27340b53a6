# Everything runs in .venv. `make run` installs what zmock needs; the other targets add what the tests need. Each installs
# again when pyproject.toml changes. pip reads its own settings: PIP_INDEX_URL, PIP_NO_INDEX, HTTPS_PROXY, pip.conf.

export PYTHONDONTWRITEBYTECODE =  # keep the bytecode of zmock and of the tests, so that they start sooner

PYTHON ?= python3
RUN = .venv/.run
READY = .venv/.ready

help:  ## this list
	@awk -F ':.*  ## ' '/^[a-z]+:.*  ## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

# A module starts sooner than a script: Python keeps the bytecode of modules.
run: $(RUN)  ## start zmock; ARGS="--port 0" passes flags
	@exec .venv/bin/python -m zmock $(ARGS)

test: $(READY)  ## run the tests; ARGS="-k volume" passes flags to pytest
	.venv/bin/python -m pytest -q -n auto --dist worksteal $(ARGS)

check: $(READY)  ## run what a change has to pass: ruff, mypy, then the tests
	.venv/bin/python -m ruff check
	.venv/bin/python -m mypy
	@$(MAKE) --no-print-directory test

crash: $(READY)  ## kill zmock at work, ROUNDS=200 times, and check what it kept
	ROUNDS=$(or $(ROUNDS),200) .venv/bin/python -m pytest -q tests/test_crash.py -k kills

slow: $(READY)  ## run the slow tests: the package in fresh environments, the whole contract, more clouds and queries
	.venv/bin/python -m pytest -q -m slow -n auto --dist loadfile $(ARGS)

bench: $(READY)  ## measure the speed, beside a bare aiohttp server
	@PYTHONPATH=. .venv/bin/python tests/bench.py
	@PYTHONPATH=. .venv/bin/python tests/bench_fixture.py

# A .venv is made anew if its Python does not start (it was copied, or Python was upgraded), or if PYTHON names another.
IS_NEW_ENOUGH = -c 'import sys; sys.exit(sys.version_info < (3, 11))'
ORIGIN = -c 'import sys; print(sys.version, sys.base_prefix)'
ifneq ($(shell .venv/bin/python $(IS_NEW_ENOUGH) 2>/dev/null && echo yes),yes)
STALE = its Python does not start, or is older than 3.11
else ifneq ($(origin PYTHON),file)
ifneq ($(shell .venv/bin/python $(ORIGIN)),$(shell $(PYTHON) $(ORIGIN) 2>/dev/null))
STALE = its Python is not $(PYTHON)
endif
endif
ifdef STALE
.PHONY: $(RUN) $(READY)
endif

# Install the requirements that a Python expression takes out of pyproject.toml. Nothing is printed on stdout.
install = .venv/bin/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*$(1), sep="\n")' > .venv/needed.txt && \
	.venv/bin/python -m pip install -q --disable-pip-version-check -r .venv/needed.txt >&2 || \
	{ echo "pip could not install it, see above; PIP_INDEX_URL names another index, HTTPS_PROXY a proxy" >&2; exit 1; }

$(RUN): pyproject.toml
ifdef STALE
	@command -v $(PYTHON) >/dev/null && $(PYTHON) $(IS_NEW_ENOUGH) || \
		{ echo "zmock needs Python 3.11 or newer, which $(PYTHON) is not; name one: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) lacks venv; on Debian or Ubuntu: apt install python3-venv" >&2; exit 2; }
	@if [ -e .venv ]; then echo "making .venv anew: $(STALE)" >&2; else echo "making .venv" >&2; fi
	@$(PYTHON) -m venv --clear .venv
endif
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null
	@if [ ! $(READY) -nt pyproject.toml ]; then \
		echo "installing aiohttp and tinydb into .venv" >&2; $(call install,project["dependencies"]); fi
	@touch $@

$(READY): pyproject.toml | $(RUN)
	@echo "installing what the tests need into .venv" >&2
	@$(call install,project["dependencies"] + project["optional-dependencies"]["test"])
	@touch $@

.PHONY: help run test check slow crash bench
