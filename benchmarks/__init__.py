"""Suites, protocols and published numbers, as data."""
