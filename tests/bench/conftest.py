"""What the harness's tests need of real servers."""

from tests.services import admin_pool, database, database_template

__all__ = ["admin_pool", "database", "database_template"]
