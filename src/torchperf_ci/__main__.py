"""`python -m torchperf_ci` is the same as the console script `torchperf-ci`."""

from torchperf_ci.cli.main import main

if __name__ == "__main__":
    main()
