"""`python -m zentra.gateway` is `zentra`."""

from zentra.gateway.cli import main

if __name__ == "__main__":
    main()
