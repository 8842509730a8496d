"""A stand-in for torchbench's script; its skips are those of a class, as there."""

from common import main


class TorchBenchmarkRunner:
    skip_models = frozenset({"left_out", "with space"})
    skip_not_suitable_for_training_models = ("not_for_training",)
    skip_models_for_cpu = frozenset({"not_on_cpu"})
    skip_models_for_cuda = frozenset({"not_on_cuda"})


if __name__ == "__main__":
    main(["BERT_pytorch", "resnet18", "left_out", "not_for_training", "not_on_cpu", "not_on_cuda"])
