.DEFAULT_GOAL := help
.PHONY: help setup demo test lint pictures screenshots notebooks docs golden bundle-validate down clean requirements

help: ## explain the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv and .lakehouse; the other targets do it when it is wanted
	@tools/venv
	@.venv/bin/lakeflow-local setup

demo: setup ## run the whole system once: MySQL, S3, bronze, silver, gold, answers
	@.venv/bin/python -m demo $(DEMO)

test: setup ## run every test
	@.venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations 20

lint: setup ## check style and types of the Python code
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

pictures: setup ## draw pipelines and jobs anew from their sources, and put the SQL of sql/ into the dashboards
	@.venv/bin/python -m tools.pictures
	@.venv/bin/python -m dashboards.build

screenshots: setup ## photograph the dashboard and the UI for the documents (wants make demo, chromium)
	@.venv/bin/python -m tools.screenshots

notebooks: setup ## run the notebooks and keep them with their outputs in docs/notebooks/pages (wants make demo)
	@.venv/bin/lakeflow-local notebook run docs/notebooks/*.py --output docs/notebooks/pages

docs: setup ## write docs/datasets and the tags of columns from the sources
	@.venv/bin/python -m tools.dataset_docs

golden: setup ## write the resolved configuration of each target to tests/golden, to be read as a diff
	@mkdir -p tests/golden
	@UPDATE_GOLDEN=1 .venv/bin/python -m pytest -q -n0 tests/test_bundle.py -k reviewed
	@git diff --stat -- tests/golden

bundle-validate: setup ## check the bundle, also by the databricks CLI where it is installed
	@.venv/bin/python tools/bundle_validate.py

down: ## end the servers
	@if [ -x .venv/bin/lakeflow-local ]; then .venv/bin/lakeflow-local down; fi

clean: down ## end the servers and remove .lakehouse and .venv
	@rm -rf .lakehouse .venv

requirements: ## resolve requirements.txt anew from the two pyproject.toml (wants uv)
	@uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --group dev --extra arrow --extra quality --extra pipelines pyproject.toml lakeflow_local/pyproject.toml -o requirements.txt
