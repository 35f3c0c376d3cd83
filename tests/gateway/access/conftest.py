"""What the tests of who comes in share."""

from tests.services import admin_pool, database, database_template, redis_flushed, tenant_pool, writer_pool

__all__ = ["admin_pool", "database", "database_template", "redis_flushed", "tenant_pool", "writer_pool"]
