"""Drawing with MuJoCo: choosing an OpenGL back end by trying them, and a small renderer that is fast in software."""

from __future__ import annotations

import atexit
import functools
import importlib
import logging
import os
import subprocess
import sys
import weakref
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot.errors import TongsError, unknown

LOG = logging.getLogger(__name__)
BACKENDS = ("egl", "osmesa")
INSTALL = "apt-get install -y libegl1 libgl1-mesa-dri (EGL) or libosmesa6 (OSMesa)"
_PROBE = """
import importlib, sys
module = importlib.import_module("mujoco." + sys.argv[1])
context = module.GLContext(16, 16)
context.make_current()
from OpenGL import GL
print(GL.glGetString(GL.GL_RENDERER).decode())
context.free()
"""


@dataclass(frozen=True)
class Verdict:
    """Whether a back end works here, and what it said: the name of the graphics device, or why it failed."""

    backend: str
    usable: bool
    reason: str


def probe(backend: str) -> Verdict:
    """Try one back end in a process of its own, since a failed attempt spoils OpenGL for the process that made it."""
    environment = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    environment["MUJOCO_GL"] = backend
    try:
        run = subprocess.run(
            [sys.executable, "-c", _PROBE, backend], capture_output=True, text=True, timeout=60, env=environment
        )
    except subprocess.TimeoutExpired:
        return Verdict(backend, False, "did not answer within 60 s")
    if run.returncode == 0:
        return Verdict(backend, True, run.stdout.strip().splitlines()[-1])
    lines = run.stderr.strip().splitlines() or [f"exit status {run.returncode}"]
    return Verdict(backend, False, lines[-1])


@functools.cache
def choose() -> str:
    """The first back end that works; the choice is logged, and exported so that child processes need not probe again.

    Raises TongsError that names the packages to install when none works.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    if wanted:
        if wanted not in BACKENDS:
            raise unknown("render back end in MUJOCO_GL", wanted, BACKENDS)
        return wanted
    verdicts = []
    for backend in BACKENDS:
        verdict = probe(backend)
        if verdict.usable:
            LOG.info("rendering with %s on %s", backend, verdict.reason)
            os.environ["MUJOCO_GL"] = backend
            return backend
        verdicts.append(verdict)
    reasons = "; ".join(f"{verdict.backend}: {verdict.reason}" for verdict in verdicts)
    raise TongsError(f"MuJoCo cannot render on this machine ({reasons}); install one of: {INSTALL}")


class Renderer:
    """One OpenGL context for any number of models made of primitives, or for one with meshes and textures, which are
    uploaded here.

    `fast` turns shadows, reflections and multisampling off, which makes software OpenGL some fifty times faster;
    `presentation` keeps them, for pictures that people look at. Shapes of MuJoCo's `hidden_group` are not drawn.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        quality: str = "fast",
        size: tuple[int, int] = (512, 512),
        hidden_group: int | None = None,
    ) -> None:
        if quality not in ("fast", "presentation"):
            raise unknown("render quality", quality, ("fast", "presentation"))
        self._quality = quality
        backend = choose()
        try:
            self._context = importlib.import_module(f"mujoco.{backend}").GLContext(*size)
            self._context.make_current()
        except Exception as error:
            raise TongsError(f"MuJoCo cannot render with {backend} ({error}); install: {INSTALL}") from error
        self._size = size
        model.vis.global_.offheight, model.vis.global_.offwidth = size
        if quality == "presentation":
            model.vis.quality.offsamples, model.vis.quality.shadowsize = 8, 4096
        else:  # no multisampling or shadow map, and round shapes from few triangles
            model.vis.quality.offsamples, model.vis.quality.shadowsize = 0, 0
            model.vis.quality.numslices, model.vis.quality.numstacks, model.vis.quality.numquads = 16, 8, 1
        self._mujoco = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._mujoco)
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0
        if hidden_group is not None:
            self._option.geomgroup[hidden_group] = 0
        self._camera = mujoco.MjvCamera()
        self._perturb = mujoco.MjvPerturb()
        self._scene, self._scene_model = self._new_scene(model), model
        _LIVE.add(self)
        _close_at_exit()

    def render(
        self, model: mujoco.MjModel, data: mujoco.MjData, camera: str, height: int, width: int
    ) -> NDArray[np.uint8]:
        """(height, width, 3) RGB, upright."""
        if height > self._size[0] or width > self._size[1]:
            raise TongsError(f"images are at most {self._size[0]}x{self._size[1]}, asked for {height}x{width}")
        self._context.make_current()
        if self._scene_model is not model:
            self._scene, self._scene_model = self._new_scene(model), model
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera(camera).id
        mujoco.mjv_updateScene(
            model, data, self._option, self._perturb, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        viewport = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(viewport, self._scene, self._mujoco)
        image = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, viewport, self._mujoco)
        return image[::-1].copy()

    def _new_scene(self, model: mujoco.MjModel) -> mujoco.MjvScene:
        scene = mujoco.MjvScene(model, maxgeom=256)
        scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = self._quality == "presentation"
        for flag in ("mjRND_REFLECTION", "mjRND_SKYBOX", "mjRND_HAZE"):
            scene.flags[getattr(mujoco.mjtRndFlag, flag)] = False
        return scene

    def close(self) -> None:
        """Free the context; without this, OpenGL's own clean-up at exit fails."""
        if self in _LIVE:
            _LIVE.discard(self)
            self._context.make_current()
            self._mujoco.free()
            self._context.free()


_LIVE: weakref.WeakSet[Renderer] = weakref.WeakSet()


@functools.cache
def _close_at_exit() -> None:
    """Registered after the first context exists, so that it runs before the back end ends its display."""

    @atexit.register
    def close_all() -> None:
        for renderer in list(_LIVE):
            renderer.close()
