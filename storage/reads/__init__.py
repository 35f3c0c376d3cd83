"""What people read: tenant-scoped, for the doors, for evidence, for the bench."""
