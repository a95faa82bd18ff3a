"""The checks of `scripts/gpu-check`: a module each, with a function `check` that yields findings."""
