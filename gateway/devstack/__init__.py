"""Postgres, NATS and Redis on one machine, for development and tests."""
