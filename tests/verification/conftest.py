"""What the tests of verification share."""

from tests.services import admin_pool, database, database_template
from tests.verification.databases import copied, copy, ledger

__all__ = ["admin_pool", "copied", "copy", "database", "database_template", "ledger"]
