"""`python -m zentra.gateway` is `zentra`."""

from zentra.gateway.cli.main import main

if __name__ == "__main__":
    main()
