"""Webhooks: the wire format, and the delivery actor."""
