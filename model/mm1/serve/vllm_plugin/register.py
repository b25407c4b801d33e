"""The entry point of the plug-in: tells vLLM which class runs an exported MM1.

vLLM calls it once in each of its processes (entry-point group ``vllm.general_plugins``), before anything else. A plug-in must
not break an installation: where vLLM is absent or of another version, it logs one line and registers nothing.
"""

from __future__ import annotations

import logging

from mm1.serve.vllm_plugin.interfaces import OtherVersionError, load_interfaces
from mm1.serve.vllm_plugin.weights import ARCHITECTURE

MODEL = "mm1.serve.vllm_plugin.model:MM1ForVllm"
"""Class by name: vLLM imports it where it needs it, after it has forked its processes."""
_REMEDY = "serve the model with mm1 serve instead"

log = logging.getLogger("mm1")


def register() -> None:
    """Register the architecture with vLLM; calling it again changes nothing."""
    try:
        from vllm import ModelRegistry, __version__
    except ImportError as error:
        log.warning("mm1: vLLM cannot be imported (%s), so MM1 is not registered with it; %s", error, _REMEDY)
        return
    try:
        load_interfaces()
        if ARCHITECTURE not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(ARCHITECTURE, MODEL)
    except (OtherVersionError, AttributeError) as error:
        log.warning("mm1: vLLM %s is not supported (%s), so MM1 is not registered with it; %s", __version__, error, _REMEDY)
