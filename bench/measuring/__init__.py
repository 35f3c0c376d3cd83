"""Load from a generator of its own against an installation, and the figures."""
