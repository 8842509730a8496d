"""The timm_models suite. What needs timm itself runs where it can be imported, and is skipped elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from torchperf_ci.suites import timm_models
from torchperf_ci.suites.published import read_rows

try:
    import timm
except Exception as error:  # noqa: BLE001 - torchvision, which timm needs, may not fit this torch and raise anything
    timm = None
    WHY = f"timm cannot be imported: {error}"
else:
    WHY = ""

with_timm = pytest.mark.skipif(timm is None, reason=WHY)


def models_with(wildcards: str) -> subprocess.CompletedProcess[str]:
    code = "import torchperf_ci.suites.timm_models as suite; print(*suite.MODELS)"
    environment = {**os.environ, "TORCHPERF_TIMM_MODELS": wildcards}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


def test_without_more_the_suite_is_pytorchs_list() -> None:
    """The names and their order are those of the data file, whether timm is installed or not."""
    assert list(timm_models.MODELS) == [row["name"] for row in read_rows("timm_models.csv")]
    assert "inception_v3" in timm_models.MODELS


def test_every_model_of_the_list_can_say_its_size() -> None:
    """One line with parameters, batch and image size."""
    assert timm_models.describe("inception_v3") == "24 M parameters, batch 128, 299 px"
    assert timm_models.describe("a_model_of_tomorrow") == ""


@pytest.mark.skipif(timm is not None, reason="timm is installed")
def test_without_timm_wildcards_are_refused_with_the_command_that_installs_it() -> None:
    """Asking timm for its list where there is no timm says so."""
    assert "TORCHPERF_TIMM_MODELS asks timm for its models, and timm " in models_with("resnet*").stderr


@with_timm
def test_wildcards_take_the_models_that_timm_lists() -> None:
    """Wildcards replace the list by timm's own."""
    assert models_with("resnet1?,vit_tiny_patch16_224").stdout.split() == timm.list_models(
        ["resnet1?", "vit_tiny_patch16_224"]
    )


@with_timm
def test_wildcards_that_match_nothing_are_refused() -> None:
    """A list of no models is a mistake."""
    assert "timm lists no such model" in models_with("no_such_net*").stderr.replace(f" {timm.__version__}", "")


@with_timm
@pytest.mark.filterwarnings("ignore:Mapping deprecated model name:UserWarning")
def test_the_sizes_in_the_list_are_timms() -> None:
    """Every name of the list is one of timm's, with the parameters that the list says."""
    import torch

    assert [name for name in timm_models.MODELS if timm_models.missing(name)] == []
    with torch.device("meta"):
        counted = {
            name: sum(parameter.numel() for parameter in timm.create_model(name).parameters())
            for name in timm_models.MODELS
        }
    assert counted == {name: model.parameters for name, model in timm_models.CATALOG.items()}


@with_timm
def test_an_unknown_name_is_told_with_the_nearest() -> None:
    """A model that this timm lacks is a reason, not a missing row."""
    assert timm_models.missing("resnet1888") == (
        f"timm {timm.__version__} has no model resnet1888; the nearest it has is resnet18"
    )


@with_timm
@pytest.mark.parametrize(
    ("name", "mode", "size", "shape"),
    [
        ("mobilenetv2_100", "inference", None, (2, 3, 112, 112)),
        ("mobilenetv2_100", "training", 3, (3, 3, 112, 112)),
        ("deit_tiny_patch16_224.fb_in1k", "inference", 1, (1, 3, 112, 112)),
    ],
)
def test_models_are_built_with_random_weights_and_images_of_their_size(
    name: str, mode: str, size: int | None, shape: tuple[int, ...]
) -> None:
    """Small images, of models of any size and of models of a size that is chosen; the batch is the one asked for."""
    module, (images,) = timm_models.MODELS[name](size, mode=mode, device="cpu", scale="small")
    assert tuple(images.shape) == shape
    assert module.train(mode == "training")(images).shape == (shape[0], 1000)
