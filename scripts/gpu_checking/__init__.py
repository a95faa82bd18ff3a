"""The checks of `scripts/gpu-check`, as tests of pytest: they measure, and compare with what is promised."""
