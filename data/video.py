"""Episodes as mp4 files: H.264 through PyAV, exact frame spans back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import NDArray

from robot.errors import TongsError

CODEC = "h264"
TIME_BASE = 15360
"""Ticks per second; LeRobot's, a multiple of the usual frame rates."""
TIME_TOLERANCE = 1e-4
"""Seconds by which a frame may miss its time stamp; LeRobot's `tolerance_s`."""


def encode_video(path: Path, frames: NDArray[np.uint8], fps: int, quality: int = 18, key_interval: int = 8) -> None:
    """Write frames as an mp4 that appears whole or not at all.

    Args:
        path: the mp4 to write.
        frames: uint8 (N, H, W, 3) RGB; H and W even, as 4:2:0 colour needs.
        fps: frames per second.
        quality: H.264 constant rate factor; 18 is visually lossless, smaller is better and larger on disk.
        key_interval: frames from one key frame to the next; small makes random access cheap.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or len(frames) == 0:
        raise TongsError(f"video {path.name}: expected uint8 frames (N, H, W, 3), got {frames.dtype} {frames.shape}")
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise TongsError(f"video {path.name}: height and width must be even, got {height}x{width}")
    temporary = path.with_name(path.name + ".partial")
    options = {"crf": str(quality), "preset": "veryfast", "g": str(key_interval), "bf": "0"}
    try:
        with av.open(str(temporary), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=fps, options=options)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.time_base = Fraction(1, TIME_BASE)
            stream.codec_context.thread_count = 1
            for number, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _frames(path: Path, start: float = 0.0, only_key_frames: bool = False) -> Iterator[av.VideoFrame]:
    """Decoded frames in order, from the key frame at or before `start` seconds."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            if only_key_frames:
                stream.codec_context.skip_frame = "NONKEY"
            if start > 0 and stream.time_base:
                container.seek(int(start / stream.time_base), stream=stream)
            yield from container.decode(stream)
    except (FFmpegError, IndexError, FileNotFoundError) as error:
        raise TongsError(f"video {path} cannot be decoded ({error}); it is missing or cut short") from error


def _pixels(frame: av.VideoFrame) -> NDArray[np.uint8]:
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def decode_video(path: Path, from_timestamp: float, to_timestamp: float) -> NDArray[np.uint8]:
    """The frames with from_timestamp <= time < to_timestamp (s), uint8 (N, H, W, 3) RGB."""
    wanted = []
    for frame in _frames(path, from_timestamp):
        if frame.time is None or frame.time < from_timestamp - TIME_TOLERANCE:
            continue
        if frame.time >= to_timestamp - TIME_TOLERANCE:
            break
        wanted.append(_pixels(frame))
    if not wanted:
        raise TongsError(f"video {path} holds no frames from {from_timestamp:g} s to {to_timestamp:g} s")
    return np.stack(wanted)


def decode_key_frames(path: Path) -> NDArray[np.uint8]:
    """Only the key frames, uint8 (K, H, W, 3): a cheap regular sample for statistics."""
    pictures = [_pixels(frame) for frame in _frames(path, only_key_frames=True)]
    if not pictures:
        raise TongsError(f"video {path} holds no frames")
    return np.stack(pictures)


def video_shape(path: Path) -> tuple[int, int, int]:
    """Frames, height and width as the container declares them, without decoding."""
    try:
        container = av.open(str(path))
    except (FFmpegError, FileNotFoundError) as error:
        raise TongsError(f"video {path} cannot be opened ({error}); it is missing or cut short") from error
    with container:
        if not container.streams.video:
            raise TongsError(f"{path} holds no video")
        stream = container.streams.video[0]
        shape = stream.frames, stream.height, stream.width
    return shape


def is_complete(path: Path) -> bool:
    """Whether the mp4's top-level boxes fill the file exactly and include the index; reads a few bytes only."""
    size, offset, kinds = path.stat().st_size, 0, set()
    with path.open("rb") as file:
        while offset + 8 <= size:
            file.seek(offset)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            elif length == 0:
                length = size - offset
            if length < 8:
                return False
            kinds.add(kind)
            offset += length
    return offset == size and {b"moov", b"mdat"} <= kinds
