"""Measures every loss against the libraries that offer it too; `python -m benchmarks --help`."""
