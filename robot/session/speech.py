"""Push-to-talk: from a recording in any format that a browser makes to words, by a transcriber on this machine."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError

RATE = 16_000
"""Samples per s of what a transcriber hears."""
LONGEST = 20.0
"""s; a correction is short, and nobody wants to wait for a lecture to be understood."""
_SHORTEST = 0.2
_MODEL_FILES = ("model.bin", "config.json", "tokenizer.json")


class Transcriber(Protocol):
    """Turns speech into text; called by one thread at a time."""

    def transcribe(self, samples: NDArray[np.float32]) -> str:
        """The words in samples (N,) from -1 to 1 at `RATE`; "" if there are none."""
        ...


def decode_speech(data: bytes) -> NDArray[np.float32]:
    """Samples (N,) from -1 to 1 at `RATE`, mono, of a recording: WebM, Ogg, MP4, WAV, whatever FFmpeg reads.

    Raises:
        TongsError: it is no recording, too short to hold a word, or longer than `LONGEST`.
    """
    import av
    from av.error import FFmpegError

    parts: list[NDArray[np.float32]] = []
    length = 0
    try:
        with av.open(io.BytesIO(data), "r") as container:
            if not container.streams.audio:
                raise TongsError("the recording has no sound in it")
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
            for frame in container.decode(audio=0):
                frame.pts = None  # a recording that was cut out of a stream begins at any time
                for piece in resampler.resample(frame):
                    parts.append(piece.to_ndarray()[0])
                    length += parts[-1].size
                if length > LONGEST * RATE:
                    raise TongsError(f"the recording is longer than {LONGEST:g} s; say one thing at a time")
            parts += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    except FFmpegError as error:
        raise TongsError(f"the recording of {len(data)} bytes cannot be read: {error.strerror}") from error
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if samples.size < _SHORTEST * RATE:
        raise TongsError(f"the recording has {samples.size / RATE:.2f} s of sound; hold the button while you speak")
    return samples


class FasterWhisper:
    """A Whisper model converted for CTranslate2, run by faster-whisper; nothing is downloaded.

    Args:
        folder: with model.bin, config.json and tokenizer.json, as `ct2-transformers-converter` writes them.
        language: what is spoken, such as "en".
        device: "cpu" or "cuda".

    Raises:
        TongsError: faster-whisper is not installed, or the folder holds no such model.
    """

    def __init__(self, folder: Path | str, language: str = "en", device: str = "cpu") -> None:
        folder = Path(folder).expanduser()
        if absent := [name for name in _MODEL_FILES if not (folder / name).is_file()]:
            raise TongsError(
                f"speech={folder} is no folder of a faster-whisper model: it has no {', '.join(absent)}; "
                "ct2-transformers-converter makes one of a Whisper checkpoint"
            )
        try:
            from faster_whisper import WhisperModel
        except ModuleNotFoundError as error:
            raise TongsError(f"speech needs {error.name}: pip install 'tongs[speech]'") from error
        self._language, self._lock = language, threading.Lock()
        try:
            self._model: Any = WhisperModel(
                str(folder), device=device, compute_type="int8" if device == "cpu" else "default", local_files_only=True
            )
        except (RuntimeError, ValueError) as error:
            raise TongsError(f"speech={folder} cannot be loaded: {error}") from error
        if language not in self._model.supported_languages:
            raise TongsError(f"the model in {folder} does not know the language {language!r}")

    def transcribe(self, samples: NDArray[np.float32]) -> str:
        with self._lock:
            segments, _ = self._model.transcribe(
                samples, language=self._language, temperature=0.0, condition_on_previous_text=False
            )
            return " ".join(segment.text.strip() for segment in segments)
