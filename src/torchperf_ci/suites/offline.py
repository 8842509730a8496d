"""Build models without downloading: what asks for a file from the network is refused, with the reason.

Files that are in a local cache already are used as ever. Everything is put back when the block ends, so that a suite
of somebody else's in the same process keeps its network.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import torch
import torch.hub

_REFUSALS = {"OfflineModeIsEnabled", "LocalEntryNotFoundError"}
"""The errors that huggingface_hub raises when it may not go online; by name, since it need not be installed."""


class NeedsDownload(Exception):
    """A model that cannot be built from what is on this machine."""


@contextmanager
def no_downloads(model: str) -> Iterator[None]:
    """Refuse downloads by the Hugging Face hub and by torch.hub while the block runs. Raises `NeedsDownload`."""
    with ExitStack() as stack:
        stack.enter_context(_environment("HF_HUB_OFFLINE", "1"))
        if hub := sys.modules.get("huggingface_hub.constants"):
            stack.enter_context(replaced(hub, "HF_HUB_OFFLINE", value=True))
        stack.enter_context(replaced(torch.hub, "download_url_to_file", _refuse))
        try:
            yield
        except Exception as error:
            if asked_for := _refused(error):
                raise NeedsDownload(
                    f"{model} asks for a download, and this suite downloads nothing: {asked_for}"
                ) from error
            raise


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:  # noqa: ANN401 - a module or a class
    """Put another value under the attribute `name` while the block runs."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class _Refused(Exception):
    """torch.hub was asked to fetch a URL."""


def _refuse(url: str, *_: object, **__: object) -> NoReturn:
    raise _Refused(url)


def _refused(error: BaseException | None) -> str | None:
    """Say what was asked for, if a refused download is the error or the cause of it."""
    outermost = error
    while error is not None:
        if isinstance(error, _Refused):
            return str(error)
        if type(error).__name__ in _REFUSALS:
            return " ".join(str(outermost).split())
        error = error.__cause__ or error.__context__
    return None


class _NoWeights(dict[str, Any]):
    """Stands for a file of weights that was not loaded."""


@contextmanager
def random_weights() -> Iterator[None]:
    """Let torchvision, timm and torch.hub keep a model's random weights where they would load published ones.

    A measurement needs the shapes, not the values.
    """
    with ExitStack() as stack:
        load = _unless_absent(torch.nn.Module.load_state_dict)
        stack.enter_context(replaced(torch.nn.Module, "load_state_dict", load))
        stack.enter_context(replaced(torch.hub, "load_state_dict_from_url", _no_weights))
        if vision := _module("torchvision.models"):
            stack.enter_context(replaced(vision.WeightsEnum, "get_state_dict", _no_weights))
        if timm := _module("timm"):
            stack.enter_context(replaced(timm, "create_model", _untrained(timm.create_model)))
        yield


def _no_weights(*_: object, **__: object) -> _NoWeights:
    return _NoWeights()


def _unless_absent(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_unless_absent(module: torch.nn.Module, state: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - torch's signature
        return None if isinstance(state, _NoWeights) else load(module, state, *args, **kwargs)

    return load_unless_absent


def _untrained(create: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(create)
    def create_untrained(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - timm's signature
        return create(*args, **{**kwargs, "pretrained": False})

    return create_untrained


def _module(name: str) -> Any:  # noqa: ANN401 - a module, or None where it is absent or broken
    try:
        return importlib.import_module(name)
    except Exception:  # noqa: BLE001 - a package that does not fit this torch may raise anything
        return None
