"""A step whose libraries are careless: credentials are in its warnings, logs, exceptions and threads."""

from __future__ import annotations

import base64
import json
import logging
import threading
import warnings
from typing import Literal
from urllib.parse import quote, urlencode

from pydantic import BaseModel, Field

from mm1.errors import DataError
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from tests.support.canaries import CANARIES

ADDRESSES = [f"https://user:{quote(value, safe='')}@db.example/x?X-Amz-Signature={quote(value)}" for value in CANARIES.values()]
HEADERS = [f"Authorization: Basic {base64.b64encode(f'user:{value}'.encode()).decode()}" for value in CANARIES.values()]
EVERYTHING = "\n".join(
    [
        str(CANARIES),
        json.dumps(CANARIES),
        urlencode(CANARIES),
        "url: /hooks/canary-path",
        *CANARIES.values(),
        *ADDRESSES,
        *HEADERS,
    ]
)


class Inputs(BaseModel):
    """Inputs of leak."""

    way: Literal["unexpected", "typed", "chained"] = Field(description="kind of the exception")


class Outputs(BaseModel):
    """Outputs of leak."""


def run(inputs: Inputs, context: Context) -> Outputs:
    """Log what a careless library logs, then fail."""
    logging.getLogger("library").warning("connecting with %s", EVERYTHING)
    warnings.warn(EVERYTHING, stacklevel=1)
    thread = threading.Thread(target=_fail)
    thread.start()
    thread.join()
    if inputs.way == "typed":
        raise DataError(EVERYTHING)
    if inputs.way == "chained":
        try:
            _fail()
        except RuntimeError as error:
            raise ValueError("the connection failed") from error
    _fail()
    return Outputs()


def _fail() -> None:
    raise RuntimeError(f"GET {EVERYTHING} failed")


STEP = Step(name="leak", inputs=Inputs, outputs=Outputs, run=run, summary="Leak.", cached=False)

if __name__ == "__main__":
    main(STEP)
