"""Double entry: money, postings, and the invariants of the books."""
