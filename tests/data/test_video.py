"""mp4 files: what goes in comes out, whole or not at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from data.video import decode_key_frames, decode_video, encode_video, is_complete, video_shape
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
