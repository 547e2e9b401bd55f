"""Densities from which points are drawn: the families, and the named densities of the catalogue."""
