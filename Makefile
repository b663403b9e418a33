# make demo      the whole way on simulated patients, into ./demo; run again, it goes on
# make real DATA=/folder/with/zips   real, public patients: import, preprocess, records, five folds,
#                evaluate, report, export, into ./real; run again, it goes on
# make test      everything CI runs: lint, types, import rules, tests on both TensorFlow lines
# make quick     lint, types, import rules and the tests without a network: a minute or so
# make docs      the site, into ./build/site; what mkdocs warns of is an error
# make install   only the environment, in ./.venv, without what the tests need
# make clean     remove the environments and the demo
# Options: PYTHON=python3.12 (any of 3.10 to 3.13), VENV=.venv, DEMO=demo, REAL=real,
#          EXTRAS=serve,dicom (add gpu for NVIDIA's cards) of make install,
#          PRESET=few_patients and WORKERS=N (all cores) of make real

PYTHON ?= python3
VENV   ?= .venv
EXTRAS ?= serve,dicom
DEMO   ?= demo
REAL   ?= real
PRESET ?= few_patients
WORKERS ?= $(shell nproc 2>/dev/null || echo 1)
BIN    := $(VENV)/bin
RUN    := $(BIN)/python -m
ADDONS := $(VENV)-addons
# One process more than the smallest machine has cores, since servers and browsers wait a lot; up to
# 4 GiB each. How files are shared out stands in tests/conftest.py.
TESTS_AT_ONCE := -n 3 --no-loadscope-reorder
# Tests that are also run on TensorFlow 2.15; no other file is read there.
CORE    = -m core $$(grep -rl 'mark\.core' tests --include='test_*.py')
PIP    := python -m pip install --disable-pip-version-check
# Several libraries ended their support of Python 3.10 with older versions, so it has its own list.
PINS    = -c constraints/tf221$$($(PYTHON) -c 'import sys; print("-py310" if sys.version_info < (3, 11) else "")').txt

# Otherwise each of the hundreds of processes of a test run would compile our code anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo real test quick checks test-addons docs clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^$$/q; s/^# //p' Makefile

install: $(VENV)/installed
	@echo "installed; enter it with  source $(BIN)/activate  and type  hypoperfusion"

$(VENV)/installed: setup.cfg pyproject.toml constraints/tf221.txt constraints/tf221-py310.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 13) or sys.exit("Python %d.%d found; 3.10 to 3.13 expected: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP) $(PINS) -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	$(BIN)/$(PIP) $(PINS) -e '.[test]'
	@touch $@

# The new patient's facts; awk, since participants.tsv has them by name.
FACT    = awk -F'\t' -v name=$(1) 'NR==1 { for (i = 1; i <= NF; i++) if ($$i == name) k = i } NR==2 { print $$k }' $(DEMO)/new_patient/participants.tsv
PATIENT = --dwi=$(DEMO)/new_patient/sub-0001/dwi/sub-0001_dwi.nii.gz \
	  --adc=$(DEMO)/new_patient/sub-0001/dwi/sub-0001_ADC.nii.gz \
	  --nihss=$$($(call FACT,nihss)) --side=$$($(call FACT,side)) \
	  $$(age=$$($(call FACT,age)); [ "$$age" = n/a ] || echo --age=$$age) --participant=simulated-sub-0001 \
	  --tmax=$(DEMO)/new_patient/derivatives/perfusion/sub-0001/perf/sub-0001_Tmax.nii.gz

# Every command keeps what it did before, so that an interrupted demo goes on.
demo: install
	@echo "== 1/9 simulate a patient as a scanner gives it, and check the files"
	@$(RUN) data_tools.simulate --out=$(DEMO)/new_patient --patients=1 --seed=5
	@$(RUN) data_tools.check_cohort --cohort=$(DEMO)/new_patient
	@echo "== 2/9 predict with the demonstration model that comes with the software"
	@$(RUN) tf_hypoperfusion.predict $(PATIENT) --out=$(DEMO)/result
	@echo "== 3/9 simulate 24 patients in MNI space, to train a model of your own"
	@$(RUN) data_tools.simulate --out=$(DEMO)/cohort --patients=24 --seed=1 --space=mni
	@echo "== 4/9 slabs -> TFRecords in five subsets"
	@$(RUN) data_tools.build_records --cohort=$(DEMO)/cohort --out=$(DEMO)/records --stride=8
	@echo "== 5/9 train fold 0, preset small"
	@$(RUN) tf_hypoperfusion.train --fold=0 --records=$(DEMO)/records --run=$(DEMO)/run --preset=small
	@echo "== 6/9 evaluate its test patients"
	@$(RUN) tf_hypoperfusion.evaluate --run=$(DEMO)/run --records=$(DEMO)/records --fold=0
	@echo "== 7/9 the paper's tables and figures for them"
	@$(RUN) tf_hypoperfusion.report --patients=$(DEMO)/run/patients.csv --out=$(DEMO)/run/report
	@echo "== 8/9 export for TensorFlow Serving"
	@$(RUN) tf_hypoperfusion.export --model=$(DEMO)/run/fold-0/best.keras --name=demo --out=$(DEMO)/saved_models
	@echo "== 9/9 predict the same patient with it"
	@$(RUN) tf_hypoperfusion.predict --model=$(DEMO)/saved_models/demo $(PATIENT) --out=$(DEMO)/result_own
	@echo
	@echo "page to read  $(DEMO)/result/report.html (demonstration model), $(DEMO)/result_own/report.html (yours)"
	@echo "result        $(DEMO)/result/result.json"
	@echo "test patients $(DEMO)/run/patients.csv"
	@echo "report        $(DEMO)/run/report/index.html"
	@echo "curves        $(BIN)/tensorboard --logdir=$(DEMO)/run"

comma := ,
empty :=
# Status 1: some patients failed and are named; the others go on.
SOME   = || [ $$? -eq 1 ]
FOLDS  = $(subst $(empty) $(empty),$(comma),$(foreach k,0 1 2 3 4,$(REAL)/run/fold-$(k)/best.keras))

# Measured once: a run that goes on shows it again.
PLAN   = $(REAL)/plan-$(PRESET).txt

real: install
	@[ -n "$(DATA)" ] || { echo "make real needs DATA=/folder/with/zips, such as ISLES2017_Training.zip" >&2; exit 2; }
	@echo "== 1/9 what this will take"
	@mkdir -p $(REAL)
	@[ -s $(PLAN) ] || { $(RUN) tf_hypoperfusion.plan --source="$(DATA)" --preset=$(PRESET) --disk=$(REAL) >$(PLAN).part && mv $(PLAN).part $(PLAN); }
	@cat $(PLAN)
	@echo "== 2/9 import the public data"
	@$(RUN) data_tools.import_public --source="$(DATA)" --out=$(REAL)/cohort --workers=$(WORKERS) $(SOME)
	@echo "== 3/9 check the files"
	@$(RUN) data_tools.check_cohort --cohort=$(REAL)/cohort --workers=$(WORKERS) $(SOME)
	@echo "== 4/9 preprocess into MNI space"
	@$(RUN) data_tools.preprocess --cohort=$(REAL)/cohort --out=$(REAL)/mni --workers=$(WORKERS) $(SOME)
	@echo "== 5/9 slabs -> TFRecords in five subsets"
	@$(RUN) data_tools.build_records --cohort=$(REAL)/mni --out=$(REAL)/records
	@echo "== 6/9 train five folds, preset $(PRESET)"
	@$(RUN) tf_hypoperfusion.train --fold=all --records=$(REAL)/records --run=$(REAL)/run --preset=$(PRESET)
	@echo "== 7/9 evaluate every patient by the fold that never saw it"
	@$(RUN) tf_hypoperfusion.evaluate --run=$(REAL)/run --records=$(REAL)/records $(SOME)
	@echo "== 8/9 tables and figures"
	@$(RUN) tf_hypoperfusion.report --patients=$(REAL)/run/patients.csv --out=$(REAL)/run/report
	@echo "== 9/9 export the five folds as one model"
	@$(RUN) tf_hypoperfusion.export --model=$(FOLDS) --name=real --out=$(REAL)/saved_models
	@echo
	@echo "who was imported, and what was derived   $(REAL)/cohort/imported.tsv"
	@echo "look at every patient                    $(REAL)/mni/qc.html"
	@echo "report                                   $(REAL)/run/report/index.html"
	@echo "the model and its card                   $(REAL)/saved_models/real"

# The suite's own summary comes last.
test: $(VENV)/installed-for-tests checks test-addons
	$(RUN) pytest $(TESTS_AT_ONCE)

quick: $(VENV)/installed-for-tests checks
	$(RUN) pytest -m quick -q $(TESTS_AT_ONCE)

checks: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# tensorflow-addons has no wheel for Python 3.12 and later. After install, since both would write the
# project's egg-info at once with `make -j`.
test-addons: $(VENV)/installed-for-tests
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then \
	  $(MAKE) --no-print-directory $(ADDONS)/installed && $(ADDONS)/bin/python -m pytest $(CORE) $(TESTS_AT_ONCE); \
	else echo "Python 3.12 or later: TensorFlow 2.15 with tensorflow-addons is not tested"; fi

$(ADDONS)/installed: setup.cfg pyproject.toml constraints/tf215-addons.txt
	$(PYTHON) -m venv $(ADDONS)
	$(ADDONS)/bin/$(PIP) -c constraints/tf215-addons.txt -e '.[addons,serve]' pytest pytest-xdist hypothesis
	@touch $@

# Installed when it is asked for, since no test needs it. mkdocs-material tells of its end each time;
# BUILD_NOTES has that.
docs: install
	$(BIN)/$(PIP) -e '.[docs]'
	$(RUN) docs.site build/documents
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(DEMO) $(VENV) $(ADDONS)
