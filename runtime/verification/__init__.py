"""Verification: what stored rows have to say if they are true, in arithmetic of its own."""
