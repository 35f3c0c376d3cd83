"""Small in-memory twins of the adapters, each held to the contract suite of its port."""
