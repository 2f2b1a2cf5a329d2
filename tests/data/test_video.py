"""mp4 files: what goes in comes out, whole or not at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from data.video import (
    cut_video,
    decode_key_frames,
    decode_video,
    encode_video,
    frame_times,
    is_complete,
    video_shape,
)
from robot.errors import TongsError
from tests.data.episodes import pictures


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    encode_video(tmp_path / "clip.mp4", pictures(0, 30), fps=10)
    return tmp_path / "clip.mp4"


def test_round_trip_is_nearly_lossless(clip: Path) -> None:
    frames, decoded = pictures(0, 30), decode_video(clip, 0.0, 3.0)
    assert decoded.shape == frames.shape and decoded.dtype == np.uint8
    error = (frames.astype(float) - decoded) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 35  # dB


def test_every_span_gives_its_frames(clip: Path) -> None:
    whole = decode_video(clip, 0.0, 3.0)
    for first, last in [(0, 1), (1, 2), (7, 9), (8, 20), (29, 30)]:
        np.testing.assert_array_equal(decode_video(clip, first / 10, last / 10), whole[first:last])


def test_stream_is_what_players_and_lerobot_expect(clip: Path) -> None:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 10
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
    assert times == [Fraction(number, 10) for number in range(30)]


def test_shape_and_key_frames(clip: Path) -> None:
    assert video_shape(clip) == (30, 32, 48)
    np.testing.assert_array_equal(decode_key_frames(clip), decode_video(clip, 0.0, 3.0)[::8])


def test_a_cut_file_is_noticed_at_every_length(clip: Path, tmp_path: Path) -> None:
    content, cut = clip.read_bytes(), tmp_path / "cut.mp4"
    assert is_complete(clip)
    for length in range(0, len(content), max(len(content) // 40, 1)):
        cut.write_bytes(content[:length])
        assert not is_complete(cut), f"{length} of {len(content)} bytes"
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(TongsError, match="cut short"):
        decode_video(cut, 0.0, 3.0)


def test_bad_frames_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(TongsError, match="even, got 31x48"):
        encode_video(tmp_path / "odd.mp4", pictures(0, 3, (31, 48)), fps=10)
    with pytest.raises(TongsError, match="uint8"):
        encode_video(tmp_path / "float.mp4", pictures(0, 3) / 255.0, fps=10)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_cut_at_key_frames_copies_the_compressed_frames(clip: Path, tmp_path: Path) -> None:
    whole = decode_video(clip, 0.0, 3.0)
    for first, last in [(8, 16), (0, 5), (16, 30)]:
        assert cut_video(clip, tmp_path / "cut.mp4", first / 10, last / 10, fps=10)
        np.testing.assert_array_equal(decode_video(tmp_path / "cut.mp4", 0.0, 3.0), whole[first:last])
        assert frame_times(tmp_path / "cut.mp4") == pytest.approx(np.arange(last - first) / 10)
        assert is_complete(tmp_path / "cut.mp4")


def test_a_cut_elsewhere_is_compressed_again(clip: Path, tmp_path: Path) -> None:
    whole = decode_video(clip, 0.0, 3.0)
    assert not cut_video(clip, tmp_path / "cut.mp4", 0.3, 1.4, fps=10)
    cut = decode_video(tmp_path / "cut.mp4", 0.0, 3.0)
    assert cut.shape == whole[3:14].shape and np.abs(cut.astype(int) - whole[3:14]).mean() < 3
    with pytest.raises(TongsError, match="should hold 15 frames from 2 s to 3.5 s, it holds 10"):
        cut_video(clip, tmp_path / "beyond.mp4", 2.0, 3.5, fps=10)
    assert not (tmp_path / "beyond.mp4").exists()


def test_frames_that_others_refer_to_are_not_cut_off(tmp_path: Path) -> None:
    """With frames predicted from both sides (B), a span is copied only if its last frame is not needed outside."""
    frames = pictures(0, 24)
    with av.open(str(tmp_path / "b.mp4"), "w") as container:
        stream = container.add_stream(
            "libx264", rate=10, options={"bf": "3", "g": "12", "crf": "10", "b_strategy": "0"}
        )
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    whole = decode_video(tmp_path / "b.mp4", 0.0, 2.4)
    for first, last in [(0, 12), (12, 24), (0, 7), (0, 10), (12, 20)]:
        copied = cut_video(tmp_path / "b.mp4", tmp_path / "cut.mp4", first / 10, last / 10, fps=10)
        cut = decode_video(tmp_path / "cut.mp4", 0.0, 2.4)
        assert cut.shape == whole[first:last].shape
        difference = np.abs(cut.astype(int) - whole[first:last])
        assert difference.max() == 0 if copied else difference.mean() < 3


def test_the_frames_of_a_cut_file_are_those_that_are_whole(tmp_path: Path) -> None:
    """With the index in front, as LeRobot writes it, what is there can be told and kept."""
    frames = pictures(0, 40)
    with av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0", "g": "8"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    whole, content = decode_video(tmp_path / "front.mp4", 0.0, 4.0), (tmp_path / "front.mp4").read_bytes()
    assert len(frame_times(tmp_path / "front.mp4")) == 40
    (tmp_path / "cut.mp4").write_bytes(content[: int(0.8 * len(content))])
    times = frame_times(tmp_path / "cut.mp4")
    assert 5 < len(times) < 40 and times == pytest.approx(np.arange(len(times)) / 10)
    kept = len(times) // 8 * 8
    assert cut_video(tmp_path / "cut.mp4", tmp_path / "kept.mp4", 0.0, kept / 10, fps=10)
    np.testing.assert_array_equal(decode_video(tmp_path / "kept.mp4", 0.0, 4.0), whole[:kept])
    (tmp_path / "cut.mp4").write_bytes(content[:20])
    assert frame_times(tmp_path / "cut.mp4") == []
