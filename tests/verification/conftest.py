"""What the tests of verification share."""

from tests.services import admin_pool, database, database_template

__all__ = ["admin_pool", "database", "database_template"]
