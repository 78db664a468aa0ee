"""Provisioning without a state file: read what is there, compare, converge."""
