"""The sandbox rail as a server of its own."""
