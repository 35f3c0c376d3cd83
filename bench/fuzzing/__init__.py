"""Malformed requests by the hundred thousand, and proof that they change nothing."""
