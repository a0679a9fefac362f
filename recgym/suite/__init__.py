"""A grid of agents, benchmarks and seeds: read from a file, run in processes, and summed up."""
