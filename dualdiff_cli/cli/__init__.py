"""The command line: one thin file per command that parses, calls one function, shows its result, and exits."""
