"""Random inputs for the huggingface suite by task, on the CPU. Token ids are int64 of shape (batch, length)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Tensor]


def make_inputs(task: str, config: Any, *, batch: int, length: int, labels: bool) -> Inputs:  # noqa: ANN401 - any transformers configuration
    """Keyword arguments for a model of `config`; with `labels` the model computes its own loss.

    `task` is one of `TASKS`; `length` counts tokens, which images have none of.
    """
    inputs, answers = TASKS[task](config, batch, length)
    return {**inputs, "labels": answers} if labels else inputs


def _language(config: Any, batch: int, length: int) -> tuple[Inputs, Tensor]:  # noqa: ANN401 - as in `make_inputs`
    """A token and a label at every position: masked and causal language models alike."""
    return {"input_ids": _tokens(config, batch, length)}, _tokens(config, batch, length)


def _sequence_to_sequence(config: Any, batch: int, length: int) -> tuple[Inputs, Tensor]:  # noqa: ANN401
    tokens = _tokens(config, batch, length)
    return {"input_ids": tokens, "decoder_input_ids": tokens.clone()}, _tokens(config, batch, length)


def _classification(config: Any, batch: int, length: int) -> tuple[Inputs, Tensor]:  # noqa: ANN401
    return {"input_ids": _tokens(config, batch, length)}, _classes(config, batch)


def _speech(config: Any, batch: int, length: int) -> tuple[Inputs, Tensor]:  # noqa: ANN401
    """A log-mel spectrogram of shape (batch, bins, frames); the encoder's first convolutions halve the frames."""
    frames = 2 * config.max_source_positions
    inputs = {
        "input_features": torch.randn(batch, config.num_mel_bins, frames),
        "decoder_input_ids": _tokens(config, batch, length),
    }
    return inputs, _tokens(config, batch, length)


def _image(config: Any, batch: int, length: int) -> tuple[Inputs, Tensor]:  # noqa: ANN401, ARG001
    """Square images of shape (batch, channels, height, width)."""
    size = config.image_size
    return {"pixel_values": torch.randn(batch, config.num_channels, size, size)}, _classes(config, batch)


def _tokens(config: Any, batch: int, length: int) -> Tensor:  # noqa: ANN401
    return torch.randint(0, config.vocab_size, (batch, length))


def _classes(config: Any, batch: int) -> Tensor:  # noqa: ANN401
    return torch.randint(0, config.num_labels, (batch,))


TASKS: Mapping[str, Callable[[Any, int, int], tuple[Inputs, Tensor]]] = {
    "masked": _language,
    "causal": _language,
    "sequence_to_sequence": _sequence_to_sequence,
    "classification": _classification,
    "speech": _speech,
    "image": _image,
}
"""What a model is for, and how its inputs and labels are made."""
