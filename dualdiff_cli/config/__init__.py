"""What is asked for: the schema of a configuration, and the recipes that fill it."""
