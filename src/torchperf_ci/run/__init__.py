"""Measure: plan cases, start and end workers, decide what is sampled, and make records of it."""
