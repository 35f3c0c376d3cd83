"""The command line: `zentra` and its commands."""
