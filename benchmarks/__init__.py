"""Measures quality on public and synthetic data: ``python -m benchmarks NAME``."""
