"""The mathematics of diffusion: schedules, denoisers, networks, samplers, likelihood."""
