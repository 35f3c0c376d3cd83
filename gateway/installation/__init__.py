"""A whole installation on one machine, for `zentra dev`, the demo, the bench and tests."""
