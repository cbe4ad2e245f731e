"""The command line: thin. Each command parses, calls the client, prints."""

__all__: list[str] = []
