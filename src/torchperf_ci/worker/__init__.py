"""The code that runs inside the Python under test: standard library, torch, and what a suite itself needs.

`python -m torchperf_ci.worker.preload` imports torch once, then forks one process per case. Each fork answers
JSON lines (`protocol`): the controller decides what is built, compiled and sampled, and when.
"""
