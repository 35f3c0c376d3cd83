"""Simulated banks: the other side of the adapters that speak a bank's dialect."""
