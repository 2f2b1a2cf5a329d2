"""Recordings of a tone, as browsers and files make them, and a transcriber that hears its height."""

import io

import av
import numpy as np

FORMATS = {
    "webm": ("webm", "libopus", 48_000, "stereo"),
    "ogg": ("ogg", "libopus", 48_000, "mono"),
    "mp4": ("mp4", "aac", 44_100, "mono"),
    "wav": ("wav", "pcm_s16le", 22_050, "mono"),
}


def tone(frequency: float, seconds: float, kind: str = "wav") -> bytes:
    """A sine of half the full amplitude as a file of one of `FORMATS`."""
    container, codec, rate, layout = FORMATS[kind]
    stream = io.BytesIO()
    wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    with av.open(stream, "w", format=container) as file:
        audio = file.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray((32767 * wave).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(audio.format.name, layout, rate)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(audio.encode(piece))
        file.mux(audio.encode(None))
    return stream.getvalue()


def height(samples: np.ndarray, rate: float) -> float:
    """Hz of the strongest tone in samples."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / rate)[spectrum.argmax()])


class Pitch:
    """A transcriber that says how high the tone was among words that mean something."""

    def transcribe(self, samples: np.ndarray) -> str:
        return f"Mumble, stop that {10 * round(height(samples, 16_000) / 10)}!"
