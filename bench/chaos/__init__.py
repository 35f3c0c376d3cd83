"""Real faults on real processes under load, and the verdict afterwards."""
