"""A record made readable: tables, terminal, figures."""
