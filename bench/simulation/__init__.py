"""The engine in virtual time under seeded faults, with an auditor that follows every step."""
