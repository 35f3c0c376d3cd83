"""`zentra simulate`: run the engine through seeded faults in virtual time, and check every step."""

import typer

__all__ = ["simulate_app"]

simulate_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
