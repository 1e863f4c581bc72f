# Everything a contributor or CI runs. Each target sets up what it needs; `make help` lists them.
.DEFAULT_GOAL := help
PY := .venv/bin/python
SOURCES := agent buffer dashboards limpet tests tools
unexport PYTHONDONTWRITEBYTECODE # else each of some thousand processes compiles all that it imports
.PHONY: help run test check lint fmt bench dashboards pages dist deb release image sbom audit lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

.venv/.ready: pyproject.toml requirements/dev.txt tools/venv.sh
	@sh tools/venv.sh .venv requirements/dev.txt --no-build-isolation --editable .
	@touch $@

.venv-run/.ready: requirements/run.txt tools/venv.sh
	@sh tools/venv.sh .venv-run requirements/run.txt
	@touch $@

run: .venv-run/.ready ## start Prometheus and the agent, and watch samples arrive (Ctrl-C ends it; ARGS="--for 60")
	@exec .venv-run/bin/python -m tools.demo $(ARGS)

check: lint ## format, lint, types and unit tests: before every commit
	@$(PY) -m pytest --numprocesses auto --dist loadfile tests/unit

lint: .venv/.ready ## format, lint and types
	@$(PY) -m ruff format --check $(SOURCES)
	@$(PY) -m ruff check $(SOURCES)
	@$(PY) -m mypy

test: .venv/.ready ## the whole suite, with branch coverage, against real servers and the built wheel
	@$(PY) -m tools.servers prometheus promtool alertmanager amtool
	@$(PY) -m tools.servers --try stable-prometheus victoria-metrics influxdb tinyproxy nginx node-exporter iostat buildah chromium faketime
	@rm -rf .cache/wheel
	@sh tools/dist.sh $(PY) .cache/wheel
	@sh tools/venv.sh .cache/installed requirements/run.txt --force-reinstall .cache/wheel/limpet-*.whl
	@INSTALLED=.cache/installed $(PY) -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder \
		--cov --cov-report=term

fmt: .venv/.ready ## format, and fix what the linter can fix
	@$(PY) -m ruff check --fix-only $(SOURCES)
	@$(PY) -m ruff format $(SOURCES)

bench: .venv/.ready ## measure, and print the figures as a table
	@$(PY) -m tools.servers prometheus node-exporter victoria-metrics
	@$(PY) -m tests.bench.peers
	@$(PY) -m tests.bench.types
	@$(PY) -m tests.bench

dashboards: .venv/.ready pages ## generate the dashboards' JSON, and the pages
	@$(PY) -m dashboards

pages: .venv/.ready ## generate the tables in docs/ from the code, the rules and the dashboards
	@$(PY) -m tools.alerts_page
	@$(PY) -m tools.commands_page
	@$(PY) -m tools.dashboards_page > docs/dashboards.md
	@$(PY) -m tools.metrics_page > docs/metrics.md
	@$(PY) -m tools.sizing

dist: .venv/.ready ## build the sdist and the wheel into dist/: the same commit gives the same bytes
	@rm -rf dist/limpet-*
	@sh tools/dist.sh $(PY) dist

deb: .venv/.ready ## build the Debian package into dist/ (ARCH=arm64 or armhf for another architecture)
	@$(PY) -m tools.deb $(if $(ARCH),--arch $(ARCH)) $(if $(VERSION),--version $(VERSION))

release: .venv/.ready ## build everything that ships into dist/limpet-VERSION/, with notes and checksums (ARGS=--draft)
	@$(PY) -m tools.release $(ARGS)

image: ## build the container image `limpet` (ENGINE=podman for another engine than docker)
	@$(or $(ENGINE),docker) build --file packaging/container/Dockerfile --tag limpet .

sbom: .venv/.ready ## write the bill of materials next to the lock
	@$(PY) -m tools.sbom > requirements/run.cdx.json.new && mv requirements/run.cdx.json.new requirements/run.cdx.json

audit: .venv/.ready ## query OSV for known vulnerabilities of what ships and what builds it (needs the internet)
	@$(PY) -m tools.audit $(ARGS)

lock: .venv/.ready ## bring requirements/ up to pyproject.toml (ARGS=--upgrade renews every version)
	@sh tools/lock.sh $(PY) $(ARGS)

clean: ## remove what was built; `make` sets it up again
	rm -rf .venv .venv-run .cache dist build var ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
