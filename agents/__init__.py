"""Agents, one file per paper."""
