# The things one does while working on the code; `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup test test-slow lint docs site ci

help:         ## list these
	@sed -n 's/^\([a-z-]*:\) *## \(.*\)/\1	\2/p' $(MAKEFILE_LIST)

setup:        ## install into the current environment, with all that tests and linters need
	pip install -c constraints.txt -e '.[dev]' && pre-commit install

test:         ## the default tests, five to ten minutes
	pytest

test-slow:    ## the slow tests
	pytest -m slow

lint:         ## ruff, mypy and the counts of tools/structure.py
	ruff check . && ruff format --check . && mypy && python tools/structure.py --check

docs:         ## the commands and code blocks of README and docs
	pytest tests/test_docs.py

site:         ## the docs site, into the folder site; needs '.[docs]'
	rm -rf site && python tools/site.py site

ci:           ## everything, in clean environments, as CI does
	.ci/run
