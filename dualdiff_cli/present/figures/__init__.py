"""Pictures of points, losses and gates."""
