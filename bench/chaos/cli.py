"""`zentra chaos`: hit real processes under load, and check what is left."""

import typer

__all__ = ["chaos_app"]

chaos_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
