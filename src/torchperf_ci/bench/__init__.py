"""Measuring: plan what to run, drive workers, decide what is sampled, and make records of it."""
