"""Densities that points are drawn from: families, and the named ones of the catalogue."""
