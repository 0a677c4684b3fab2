"""What tests/bench.py measures, by subject."""
