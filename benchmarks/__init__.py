"""Measurements, as ratios inside one run; `python -m benchmarks` (or `make bench`) runs them and prints a table."""
