"""The life of an intent: command, facts, machine, and the transaction actor."""
