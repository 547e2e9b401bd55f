"""What the commands do, without a terminal: each job takes a request, reports through callbacks and returns a record.

A job is imported from its own module, so that a command loads only what it uses.
"""
