"""The engine's side of the store: ticks, leases, look-ups."""
