"""The mathematics of diffusion: schedules, denoisers, networks, samplers and likelihoods."""
