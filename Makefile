# Short names for what is done with a checkout.
.PHONY: test bench studies

test:
	python -m pytest -n auto

bench:
	python -m pytest benchmarks

# The pictures of docs/studies, made anew.
studies:
	python -m simulator.study.flagship
