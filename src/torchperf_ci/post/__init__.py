"""Post what another job stored on GitHub, trusting none of it."""
