"""A stand-in for the Hugging Face script; its skips are lists of the module."""

from common import main

print("a module that talks while it is imported")

SKIP = {"SkippedForAll"}
SKIP_TRAIN = {"SkippedInTraining"}

if __name__ == "__main__":
    main(["AlbertForMaskedLM", "BertForMaskedLM", "SkippedForAll", "SkippedInTraining"])
