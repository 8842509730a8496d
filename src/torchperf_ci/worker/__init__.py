"""What runs inside the Python under test: standard library, torch, and what a suite itself needs.

`python -m torchperf_ci.worker` imports torch once (`preload`), then forks one process per case. Each fork answers
JSON lines (`protocol`): the controller decides what is built, compiled and sampled, and when.
"""
