"""Somebody's own agents."""
