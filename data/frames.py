"""Single frames out of a large array on disk, fast also when the array is larger than memory."""

from __future__ import annotations

import os
import weakref

import numpy as np
from numpy.typing import NDArray


class FrameReader:
    """Reads frames of a memory-mapped (N, ...) array with one request per frame.

    Touching a memory map instead reads page by page, each time around the place that was touched, and holds up every
    Python thread while the disk works. Here the disk is told of all frames first and works on them together.

    Args:
        frames: an array mapped by `np.load(path, mmap_mode="r")`, in C order.
    """

    def __init__(self, frames: np.memmap) -> None:
        if frames.filename is None or not frames.flags.c_contiguous:
            raise ValueError("frames must be a whole mapped file in C order")
        self.shape = frames.shape[1:]
        self.dtype = frames.dtype
        self._start = int(frames.offset)
        self._size = int(np.prod(self.shape)) * self.dtype.itemsize
        self._file = os.open(frames.filename, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._advise(0, 0, "POSIX_FADV_RANDOM")

    def read(self, indices: NDArray[np.integer]) -> NDArray:
        """The frames (len(indices), ...) at these indices (M,), each in 0..N-1."""
        places = [self._start + int(index) * self._size for index in indices]
        for place in places:
            self._advise(place, self._size, "POSIX_FADV_WILLNEED")
        frames = np.empty((len(places), *self.shape), self.dtype)
        for frame, place in zip(frames, places, strict=True):
            view = memoryview(frame).cast("B")
            done = 0
            while done < self._size:
                count = os.preadv(self._file, [view[done:]], place + done)
                if count == 0:
                    raise OSError(f"the frames at byte {place} are beyond the end of the file")
                done += count
        return frames

    def _advise(self, place: int, size: int, advice: str) -> None:
        if hasattr(os, "posix_fadvise"):  # Linux
            os.posix_fadvise(self._file, place, size, getattr(os, advice))
