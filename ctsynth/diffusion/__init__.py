"""The diffusion engine: schedule, process, samplers, conditioners."""
