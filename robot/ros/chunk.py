"""Actions as a message."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.interface import EE_DELTA
from robot.ros.transport import Transport

KIND = "tongs_msgs/msg/ActionChunk"


def chunk_message(transport: Transport, header: Any, actions: NDArray[np.float32]) -> Any:
    """A message of `KIND` from actions (H, 7) in the space `EE_DELTA`."""
    return transport.make(
        KIND,
        header=header,
        kind=EE_DELTA.kind,
        names=list(EE_DELTA.names),
        units=list(EE_DELTA.units),
        period=1.0 / EE_DELTA.rate,
        data=actions.ravel(),
    )
