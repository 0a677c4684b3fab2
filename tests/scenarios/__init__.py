"""Scenarios on a real engine. A package, so that `scenarios.platform` never shadows the standard library's `platform`."""
