"""What the gateway tests share."""

from tests.gateway.commanding import fresh, zentra
from tests.services import admin_pool, database, database_template, redis_flushed, tenant_pool, writer_pool

__all__ = [
    "admin_pool",
    "database",
    "database_template",
    "fresh",
    "redis_flushed",
    "tenant_pool",
    "writer_pool",
    "zentra",
]
