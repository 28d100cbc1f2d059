# make run    set up .venv if needed and run the main job on the built-in default (small model, CPU or GPU, real text)
# make test   set up .venv if needed and run the tests
# make coverage  the same; those of packages that need no torch with their branches traced, at least 90 % of each
# make faults  3,000 broken files of each of six kinds; runs and ranks that are killed, stopped, interrupted and starved at
#              chosen places: does one line say so, and is nothing lost? Prints the counts (FAULTS= for another number)
# make check  format, lint, types, import contracts, code that nothing uses
# make package  build sdist and wheel, install the wheel into a clean environment and use it there; leave both in build/dist
#              with hashes and bill of materials, and say what is known against the packages
# make frameworks  install torchtitan, Megatron-Core and DeepSpeed, read the planner's settings with their parsers and validators
#              (HWPROF_MEGATRON_LM=DIR: those of a checkout of Megatron-LM, or none where it is empty), and start some
# make lowest  install the lowest allowed version of every dependency but torch beside .venv, and use hwprof with them
# make oldest  all tests with the lowest versions, torch 2.4 among them, and with each other Python that is here: a table
# make docs   build the documentation, strictly, into build/site; make diagrams draws its diagrams of imports anew
# make architectures  count a small model of every type that transformers has, and write the tables of docs/architectures.md
# make walk  take every configuration of the catalogue through every command (benchmarks/catalogue_walk.py)
# make example  rebuild reports/example: a real run on this machine
# make bench  benchmarks that take minutes: order of plans, speed of the simulator, two runs side by side
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: architectures walk run test coverage frameworks questions lowest oldest faults check lint types imports unused format bench example docs diagrams package clean setup

run: setup
	@$(BIN)/hwprof run --model tiny $(ARGS)

test: setup
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

PURE := specs count predict simulate plan deploy compare trace spans report

coverage: setup
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --cov --cov-report= $(PURE:%=tests/%)
	@for package in $(PURE); do \
	    reached=$$($(BIN)/coverage report --include="hwprof/$$package/*" --fail-under=90 --format=total) || \
	        { echo "coverage of $$package is $$reached %, at least 90 is expected:"; \
	          $(BIN)/coverage report --include="hwprof/$$package/*" --skip-covered --show-missing; exit 1; }; \
	    echo "coverage of $$package: $$reached %"; \
	done
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --durations=25 $(PURE:%=--ignore=tests/%)

FAULTS ?= 3000

faults: setup
	@FAULTS=$(FAULTS) OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) tests/faults --junit-xml build/faults.xml -o junit_family=xunit1
	@$(BIN)/python .ci/faults.py build/faults.xml

MEGATRON := build/frameworks/megatron-core-0.19.2

FINETUNING := build/frameworks/trl-1.16.0-axolotl-0.19.0

frameworks: setup $(MEGATRON) $(FINETUNING)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[frameworks]'
	@HWPROF_START_FRAMEWORKS=1 HWPROF_MEGATRON_LM=$${HWPROF_MEGATRON_LM-$(MEGATRON)} \
	    HWPROF_FINETUNING=$(FINETUNING) OMP_NUM_THREADS=1 \
	    $(BIN)/pytest -q -rs tests/plan/settings

# without what they need for training, which their parsers and schemas do not
$(FINETUNING): setup
	@test -d $@ || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ \
	    trl==1.16.0 axolotl==0.19.0 peft==0.21.2 liger-kernel==0.8.5 addict==2.4.0

# from 0.17 on the wheel has Megatron-LM's own arguments.py; it is packed for Python 3.12, and read by any
$(MEGATRON): setup
	@test -d $@ || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
	    --ignore-requires-python --python-version 3.12 --target $@ megatron-core==0.19.2

questions: setup
	@HWPROF_SLOW=1 OMP_NUM_THREADS=1 $(BIN)/pytest -q tests/test_questions.py

lowest: setup
	@$(BIN)/python .ci/oldest.py

oldest: setup
	@$(BIN)/python .ci/oldest.py --whole $(ARGS)

check: lint types imports unused

lint: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: setup
	@$(BIN)/mypy

imports: setup
	@$(BIN)/lint-imports

unused: setup
	@$(BIN)/python .ci/dead_code.py

architectures: setup
	@$(BIN)/python benchmarks/architectures.py
	@$(BIN)/python benchmarks/changed_keys.py

walk: setup
	@$(BIN)/python benchmarks/catalogue_walk.py

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# Run by hand: fit_simulator.py, accuracy_page.py and example_report.py write files, memory_accuracy.py takes more than five minutes,
# trace_against_hta.py needs an environment of its own, gpu_evidence.py is meant for a GPU.
BENCHMARKS := planner_evidence simulator_speed two_runs

bench: setup
	@for name in $(BENCHMARKS); do echo "== benchmarks/$$name.py"; $(BIN)/python benchmarks/$$name.py || exit 1; done

example: setup
	@$(BIN)/python benchmarks/example_report.py

docs: setup
	@$(BIN)/python .ci/diagrams.py --check
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

diagrams: setup
	@$(BIN)/python .ci/diagrams.py

package: setup
	@.ci/package

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hwprof needs Python 3.11 or newer; set PYTHON=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing hwprof into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
