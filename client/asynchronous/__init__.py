"""The client that awaits. The one that blocks is made from it: `python -m tests.catalogue`."""
