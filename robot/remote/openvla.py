"""OpenVLA's REST format: POST /act with an image and an instruction, arrays as json-numpy writes them.

Source: `vla-scripts/deploy.py` of openvla/openvla and of moojink/openvla-oft. The former asks with "image" and gets one
action (A,); the latter with "full_image", "wrist_image" and "state", and gets a list of actions, the chunk. In the form
for clients without json-numpy both ways are texts that hold JSON.
"""

from __future__ import annotations

import base64
import binascii
import time
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError, TongsError
from robot.interface import ActionChunk, Observation, PolicySpec
from robot.remote.messages import Name
from robot.remote.openpi import read_array, read_image, read_state, require_no_history
from robot.remote.session import Service, ask, in_thread, observation


class Array(msgspec.Struct, forbid_unknown_fields=True):
    """An array as json-numpy writes it, its bytes in base64."""

    data: str = msgspec.field(name="__numpy__")
    dtype: str
    shape: Annotated[list[int], msgspec.Meta(max_length=4)]


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """A request of OpenVLA (image), of OFT (full_image, wrist_image, state), or one of them as a text in `encoded`."""

    instruction: Name | None = None
    image: Array | None = None
    full_image: Array | None = None
    wrist_image: Array | None = None
    state: Array | Annotated[list[float], msgspec.Meta(max_length=1024)] | None = None
    unnorm_key: str | None = None
    encoded: str | None = None


_requests = msgspec.json.Decoder(Request)


async def act(service: Service, body: bytes) -> bytes:
    """The answer to one request, which is an episode of its own. Raises TongsError if there is none."""
    require_no_history(service.spec, "OpenVLA's")
    request, encoded, seen = await in_thread(body, _read, body, service.spec)
    answer = write((await ask(service, None, seen)).chunk, request.full_image is not None)
    return msgspec.json.encode(answer.decode()) if encoded else answer


def write(chunk: ActionChunk, chunked: bool) -> bytes:
    """The first action, or all."""
    actions = [pack_array(action) for action in chunk.actions.astype(np.float64)]
    return msgspec.json.encode(actions if chunked else actions[0])


def pack_array(array: NDArray[Any]) -> dict[str, Any]:
    data = base64.b64encode(array.tobytes()).decode()
    return {"__numpy__": data, "dtype": array.dtype.str, "shape": array.shape}


def _read(body: bytes, spec: PolicySpec) -> tuple[Request, bool, Observation]:
    """A request, whether it was a text within another one, and its observation."""
    request = _decode(body)
    if request.encoded is None:
        return request, False, read_observation(request, spec)
    inner = _decode(request.encoded.encode())
    return inner, True, read_observation(inner, spec)


def _decode(text: bytes) -> Request:
    try:
        return _requests.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise TongsError(f"the request is not one of OpenVLA's: {' '.join(str(error).split())[:300]}") from error


def read_observation(request: Request, spec: PolicySpec) -> Observation:
    """The main image belongs to the policy's first camera that is not "wrist", the wrist image to that or the next."""
    if request.unnorm_key is not None:
        raise ContractError("unnorm_key must be left out: this policy has the statistics of one set of data only")
    if request.instruction is None:
        raise TongsError("instruction is missing: what the robot is to do")
    names = sorted(spec.cameras, key=lambda camera: camera == "wrist")  # sorting keeps the order of the others
    given = dict(zip(names, [request.image or request.full_image, request.wrist_image], strict=False))
    if missing := [camera for camera in names if given.get(camera) is None]:
        raise ContractError(f"the policy needs an image of camera {missing[0]!r}: image, or full_image and wrist_image")
    images = {camera: read_image(_numbers(given[camera]), camera, spec) for camera in spec.cameras}
    state = np.empty(0, np.float32)
    if spec.state_names:
        state = read_state([] if request.state is None else [_numbers(request.state)], spec)
    return observation(images, state, request.instruction, time.monotonic())


def _numbers(value: Array | list[float] | None) -> Any:
    if not isinstance(value, Array):
        return value
    try:
        data = base64.b64decode(value.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise TongsError("an array's __numpy__ must be base64") from error
    return read_array(value.dtype, value.shape, data)
