"""The only place where a random generator is made: one seed, one independent stream a role."""
