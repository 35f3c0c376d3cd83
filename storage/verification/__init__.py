"""Verification of what is stored: the ledger, the chains, the logs; closing of periods and the archive."""
