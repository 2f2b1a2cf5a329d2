"""Episodes as mp4 files: H.264 through PyAV, exact frame spans back."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
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


def cut_video(source: Path, target: Path, from_timestamp: float, to_timestamp: float, fps: int) -> bool:
    """Write the frames with from_timestamp <= time < to_timestamp (s) as an mp4 of their own that begins at 0 s.

    The compressed frames are copied where that is exact: the span begins with a key frame and nothing in it refers to a
    frame outside, as where files were joined end to end. Otherwise they are decoded and compressed again.

    Returns:
        Whether they were copied.
    """
    frames = round((to_timestamp - from_timestamp) * fps)
    temporary = target.with_name(target.name + ".partial")
    try:
        copied = _copy_packets(source, temporary, from_timestamp, to_timestamp, frames)
        if copied:
            os.replace(temporary, target)
        else:
            decoded = decode_video(source, from_timestamp, to_timestamp)
            if len(decoded) != frames:
                raise TongsError(
                    f"video {source} should hold {frames} frames from {from_timestamp:g} s to {to_timestamp:g} s, "
                    f"it holds {len(decoded)}"
                )
            encode_video(target, decoded, fps)
    finally:
        temporary.unlink(missing_ok=True)
    return copied


def _copy_packets(source: Path, target: Path, from_timestamp: float, to_timestamp: float, frames: int) -> bool:
    try:
        with av.open(str(source)) as container:
            stream = container.streams.video[0]
            packets = _packets_between(container, stream, from_timestamp, to_timestamp)
            if packets is None or len(packets) != frames:
                return False
            begin = packets[0].pts or 0
            with av.open(str(target), "w", format="mp4") as written:
                output = written.add_stream_from_template(stream, opaque=True)
                output.time_base = stream.time_base
                for packet in packets:
                    packet.pts, packet.dts = (packet.pts or 0) - begin, (packet.dts or 0) - begin
                    packet.stream = output
                    written.mux(packet)
    except FFmpegError:
        return False
    times, period = frame_times(target), (to_timestamp - from_timestamp) / frames
    return len(times) == frames and all(abs(t - n * period) < TIME_TOLERANCE for n, t in enumerate(times))


def _packets_between(
    container: InputContainer, stream: VideoStream, from_timestamp: float, to_timestamp: float
) -> list[av.Packet] | None:
    """The compressed frames of a span, in decoding order; None if they cannot stand alone."""
    if stream.time_base is None:
        return None
    low, high = (math.ceil((t - TIME_TOLERANCE) / stream.time_base) for t in (from_timestamp, to_timestamp))
    if from_timestamp > 0:
        container.seek(low, stream=stream)
    chosen: list[av.Packet] = []
    behind = 0  # key frames behind the span: what follows the second cannot belong to the span any more
    left = False
    for packet in container.demux(stream):
        if packet.pts is None or packet.dts is None:
            continue
        if low <= packet.pts < high:
            if left or packet.is_corrupt:
                return None
            chosen.append(packet)
        elif chosen:
            left = True
            behind += packet.is_keyframe
            if behind == 2:
                break
    if not chosen or not chosen[0].is_keyframe or any((packet.pts or 0) < (chosen[0].pts or 0) for packet in chosen):
        return None
    return chosen


def frame_times(path: Path) -> list[float]:
    """The times (s) of all frames that the file holds whole, in order, without decoding; a cut tail is left out."""
    times: list[float] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.pts is None or packet.is_corrupt or not packet.size:
                    continue
                times.append(float(packet.pts * (packet.time_base or 0)))
    except (FFmpegError, IndexError):
        pass
    return sorted(times)


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
