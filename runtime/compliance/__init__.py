"""Compliance: parties and their states, names and lists of names, and what rules say of both. All plain functions."""
