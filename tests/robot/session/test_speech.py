"""Push-to-talk: recordings of every browser's kind are decoded, and words act, above all the stop words."""

import sys
from unittest.mock import create_autospec

import numpy as np
import pytest

from robot.control.status import State
from robot.errors import TongsError
from robot.session.speech import LONGEST, RATE, FasterWhisper, decode_speech
from tests.robot.session.sounds import FORMATS, height, tone
from tests.robot.session.test_session import ME, OTHER, session, state, until


@pytest.mark.parametrize("kind", FORMATS)
def test_a_tone_is_heard_as_it_was_recorded(kind):
    samples = decode_speech(tone(440.0, 1.0, kind))
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert len(samples) == pytest.approx(RATE, rel=0.1)  # codecs pad by up to a packet at either end
    assert height(samples, RATE) == pytest.approx(440.0, abs=3.0)
    middle = samples[RATE // 4 : 3 * RATE // 4]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "recording of 0 bytes cannot be read"),
        (b"no recording at all" * 20, "recording of 380 bytes cannot be read"),
        (tone(440.0, 0.05), "0.05 s of sound"),
        (tone(440.0, LONGEST + 2.0), f"longer than {LONGEST:g} s"),
    ],
)
def test_what_is_no_recording_is_one_sentence(data, said):
    with pytest.raises(TongsError, match=said):
        decode_speech(data)


@pytest.mark.parametrize("heard", ["Stop.", "mumble, uh, STOP that thing", "Wait! Not there", "freeze"])
def test_a_stop_word_stops_whatever_else_was_understood(heard):
    with session() as running:
        running.take_control(ME, "Ada")
        running.start(ME, "go left")
        with pytest.raises(TongsError, match="Ada holds the control"):
            running.hear(OTHER, heard)
        assert state(running) == State.RUNNING
        assert running.hear(ME, heard) == "paused"
        assert until(lambda: state(running) == State.PAUSED)
        assert running.view().said == (heard, "human")
        running.discard(ME)


def test_what_is_spoken_is_understood_as_if_it_were_typed():
    with session(commands=("go left", "go right")) as running:
        running.take_control(ME, "Ada")
        running.start(ME, "go left")
        assert running.hear(ME, " Go right. ") == "instruction: go right"
        assert running.hear(ME, "Move up and left.") == "motion: move arm up and move arm left"
        for heard, answer in (
            ("Thanks for watching!", "unknown command 'Thanks for watching'; the nearest known are"),
            (" ... ", "nothing was understood"),
        ):
            with pytest.raises(TongsError, match=answer):
                running.hear(ME, heard)
        running.discard(ME)


def model_folder(folder):
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    return folder


def test_a_folder_without_a_model_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TongsError, match="has no model.bin, tokenizer.json; ct2-transformers-converter"):
        FasterWhisper(tmp_path)


def test_without_the_package_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(TongsError, match=r"speech needs faster_whisper: pip install 'tongs\[speech\]'"):
        FasterWhisper(model_folder(tmp_path))


def test_a_damaged_model_is_one_sentence(tmp_path):
    pytest.importorskip("faster_whisper", reason="speech needs the extra speech")
    with pytest.raises(TongsError, match="cannot be loaded"):
        FasterWhisper(model_folder(tmp_path))


def test_faster_whisper_is_asked_in_its_own_terms(tmp_path, monkeypatch):
    """Against the library's own signatures, for no model's weights are at hand."""
    faster_whisper = pytest.importorskip("faster_whisper", reason="speech needs the extra speech")
    model = create_autospec(faster_whisper.WhisperModel, instance=True)
    model.supported_languages = ["en", "de"]
    segment = create_autospec(faster_whisper.transcribe.Segment, instance=True)
    segment.text = " Move left."
    model.transcribe.return_value = ([segment, segment], None)
    made = create_autospec(faster_whisper.WhisperModel, return_value=model)
    monkeypatch.setattr(faster_whisper, "WhisperModel", made)
    folder = model_folder(tmp_path)
    samples = decode_speech(tone(440.0, 1.0))
    assert FasterWhisper(folder, "de").transcribe(samples) == "Move left. Move left."
    assert made.call_args.args == (str(folder),) and made.call_args.kwargs["local_files_only"]
    assert model.transcribe.call_args.args[0] is samples and model.transcribe.call_args.kwargs["language"] == "de"
    with pytest.raises(TongsError, match="does not know the language 'xx'"):
        FasterWhisper(folder, "xx")
