"""Fixtures of the tests that planted faults have asked for."""

from tests.actors.conftest import make_fleet
from tests.services import admin_pool, database, database_template

__all__ = ["admin_pool", "database", "database_template", "make_fleet"]
