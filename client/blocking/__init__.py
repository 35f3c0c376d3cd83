"""The client that blocks, made from the one that awaits: `python -m tests.catalogue`."""
