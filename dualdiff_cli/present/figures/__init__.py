"""Figures of points, losses and gates."""
