"""Building without downloading."""

from __future__ import annotations

import os

import pytest
import torch

from torchperf_ci.suites.published import NeedsDownload, no_downloads, random_weights

URL = "https://example.org/weights.pth"


def test_a_download_by_torch_hub_is_refused_with_its_address() -> None:
    """The message names the model and what it asked for, and nothing stays switched off."""
    before = torch.hub.download_url_to_file
    with pytest.raises(NeedsDownload) as caught, no_downloads("net"):
        torch.hub.download_url_to_file(URL, "/nowhere")
    assert str(caught.value) == f"net asks for a download, and this suite downloads nothing: {URL}"
    assert torch.hub.download_url_to_file is before


def test_other_errors_stay_what_they_are() -> None:
    """Only a refused download is told as one."""
    with pytest.raises(KeyError, match="mine"), no_downloads("net"):
        raise KeyError("mine")


@pytest.mark.parametrize("before", [None, "0"])
def test_the_hub_is_offline_inside_and_as_before_outside(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller has set comes back."""
    if before is None:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", before)
    with no_downloads("net"):
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ.get("HF_HUB_OFFLINE") == before


def test_published_weights_are_left_random() -> None:
    """A factory that loads weights from an address gets on without them; own weights still load."""
    layer, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before = layer.weight.clone()
    with random_weights():
        layer.load_state_dict(torch.hub.load_state_dict_from_url(URL))
        assert torch.equal(layer.weight, before)
        layer.load_state_dict(other.state_dict())
    assert torch.equal(layer.weight, other.weight)
