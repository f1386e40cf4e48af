"""Weights on the Hugging Face hub, from where timm fetches them: which lie in the local cache, and whether the hub answers."""

from __future__ import annotations

import contextlib
import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

PATIENCE_S = 3.0
FILES = ("model.safetensors", "pytorch_model.bin")  # what timm looks for, in its order


def is_cached(model: str) -> bool:
    """Return whether the pretrained weights of a timm model lie in the hub's local cache; the network is not asked."""
    from huggingface_hub import try_to_load_from_cache

    from descend.models.timm_package import timm

    config = timm.get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        return False
    repository, _, revision = config.hf_hub_id.partition("@")
    names = (config.hf_hub_filename,) if config.hf_hub_filename else FILES
    return any(isinstance(try_to_load_from_cache(repository, name, revision=revision or None), str) for name in names)


def within_reach() -> bool:
    """Return whether the hub answers, within three seconds, and the environment does not say to stay offline."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and answers(constants.ENDPOINT)


def answers(address: str) -> bool:
    """Return whether a server answers at an address within ``PATIENCE_S``; any answer will do.

    The wait is for all together: the time limit of a connection covers neither the look-up of its name nor a second address.
    """
    answered: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE_S):
                answered.append(True)
        except urllib.error.HTTPError:  # an answer, if not a friendly one
            answered.append(True)
        except (OSError, ValueError, http.client.HTTPException):  # ValueError: no address, such as one without https://
            answered.append(False)

    asking = threading.Thread(target=ask, name="descend-hub", daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    return any(answered)


@contextlib.contextmanager
def offline_where_possible(model: str) -> Iterator[None]:
    """Let the hub client look into its cache only, where the weights are there already or the hub is out of reach.

    What is cached is then what is used, whatever the hub holds by now; and the client's retries without a network take 46 s.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or is_cached(model) or not within_reach()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
