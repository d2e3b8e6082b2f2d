"""Faults under load: what is broken, and what clients saw of it. `report.py` makes docs/reliability.md."""
