"""The robot and its mask in one cheap render pass.

The pass has its own MjrContext and MjvScene on the task's model: no antialiasing, shadows,
reflections or haze, coarse round shapes, and for the robot alone neither sky nor planes. What is
drawn is the robot (its depth is below 1), so the depth buffer of the same pass is the mask.
Pictures are drawn at `SUPERSAMPLE` times their size and averaged: thin parts stay visible, and the
averaged mask is an alpha, so edges mix robot and video in the right proportion.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping

import cv2
import numpy as np

from foreground.envs.simulator import _render, mujoco, no_drawing

SUPERSAMPLE = 2  # drawn pixels per picture pixel, each way
MAX_SCENE_GEOMS = 1000  # the largest benchmark scene has under 100
# 28, 16, 4 in MuJoCo: invisible at 64 pixels.
COARSE_MESHES = {"numslices": 10, "numstacks": 6, "numquads": 1}
# A plane is drawn in at most so many cells from its centre; humanoid's floor asks for 500.
PLANE_CELLS = 20
HIDDEN_GROUP = 5  # MjvOption shows geom groups 0 to 2


_of_thread = threading.local()


def _gl_context():
    """Return dm_control's OpenGL context, one per thread.

    It is of dm_control's kind, which tracks the current context: `physics.render` may be called in
    between.
    """
    if not hasattr(_of_thread, "context"):
        try:
            # Its size is never used: MjrContext has its own framebuffer.
            _of_thread.context = _render.Renderer(16, 16)
        except (RuntimeError, OSError) as error:
            raise no_drawing() from error
        _of_thread.process = os.getpid()
    if _of_thread.process != os.getpid():
        raise RuntimeError(
            "OpenGL does not survive a fork: start worker processes with forkserver or spawn"
        )
    return _of_thread.context


@contextlib.contextmanager
def _current(context):
    """Make a context of dm_control's current, also where another library made its own current in
    this thread.

    dm_control's record of what is current does not know of that, as when an environment of
    Gymnasium renders.
    """
    with context.make_current() as calls:
        calls.call(context._platform_make_current)
        yield calls


def renderer_name() -> str:
    """Return what draws in this process, by OpenGL's own words: pixels of two renderers differ."""
    from OpenGL import GL  # only now: MuJoCo has told PyOpenGL which platform to take

    with _current(_gl_context()) as context:
        words = [context.call(GL.glGetString, name) for name in (GL.GL_RENDERER, GL.GL_VERSION)]
    return ", ".join(word.decode(errors="replace") for word in words if word)


def fixed_camera(index: int) -> "mujoco.MjvCamera":
    """Return the camera of the model with an index."""
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    camera.fixedcamid = index
    return camera


class Renderer:
    """Draws one model at one size with one camera. `close` frees the GL memory."""

    _context = None

    def __init__(
        self,
        physics,
        size: int,
        camera: "int | mujoco.MjvCamera",
        keep_floor: bool = False,
        coarse: bool = True,
    ):
        """
        physics     dm_control Physics; the model's visual settings are changed here and put back
        size        height and width of the pictures
        camera      index of a camera of the model, or any other
        keep_floor  the floor belongs to the foreground (planes are drawn and are in the mask)
        coarse      fewer polygons in round shapes, for speed
        """
        self._model = physics.model.ptr
        self._data = physics.data.ptr
        self.size = size
        self._drawn = size * SUPERSAMPLE
        self._planes = np.flatnonzero(self._model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
        self._keep_floor = keep_floor
        self._options = mujoco.MjvOption()
        # Rays of sensors do not belong to the robot.
        self._options.flags[mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = False
        self._camera = camera if isinstance(camera, mujoco.MjvCamera) else fixed_camera(camera)
        self._viewport = mujoco.MjrRect(0, 0, self._drawn, self._drawn)
        self._rgb = np.empty((self._drawn, self._drawn, 3), np.uint8)
        self._depth = np.empty((self._drawn, self._drawn), np.float32)
        self._gl = _gl_context()
        self._texture_key = b""
        self._textures: dict[int, Callable[[], np.ndarray]] = {}  # that are not uploaded yet
        with _current(self._gl), _render_settings(self._model, self._drawn, coarse):
            try:
                self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
            except mujoco.FatalError as error:  # GLFW without a display notices only here
                raise no_drawing() from error
        self._scene = mujoco.MjvScene(self._model, MAX_SCENE_GEOMS)
        for flag in ("SHADOW", "REFLECTION", "HAZE"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = False

    def foreground(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the robot over black (H, W, 3), uint8, and its coverage (H, W), uint8, 255 for a
        whole pixel.
        """
        rgb, mask = self.foreground_unfiltered()
        return self._shrink(rgb), self._shrink(mask.view(np.uint8) * np.uint8(255))

    def foreground_unfiltered(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the same at drawing resolution, bottom row first: (D, D, 3) uint8 and the mask (D,
        D) bool.
        """
        self._draw(self._depth, sky=False, planes=self._keep_floor)
        return self._rgb, self._depth < 1

    def picture(self) -> np.ndarray:
        """Return the task's own image with sky and floor, (H, W, 3) uint8."""
        self._draw(None, sky=True, planes=True)
        return self._shrink(self._rgb)

    def retexture(self, key: bytes, textures: Mapping[int, Callable[[], np.ndarray]]) -> None:
        """Draw with other texels from now on; the model keeps its own.

        key       what the texels depend on: with the same key nothing changes
        textures  index -> a function that returns the texels, which is called when they are drawn
        """
        if key != self._texture_key:
            self._texture_key, self._textures = key, dict(textures)

    def _upload(self, sky: bool, planes: bool) -> None:
        """Upload the new texels of what is drawn: the sky, or the planes."""
        model = self._model
        for index in [*self._textures]:
            if sky if model.tex_type[index] == mujoco.mjtTexture.mjTEXTURE_SKYBOX else planes:
                texels = self._textures.pop(index)().ravel()
                place = slice(model.tex_adr[index], model.tex_adr[index] + texels.size)
                own = model.tex_data[place].copy()
                model.tex_data[place] = texels
                with _current(self._gl):
                    mujoco.mjr_uploadTexture(model, self._context, index)
                model.tex_data[place] = own

    def close(self) -> None:
        if self._context is not None and not self._gl.terminated:
            with _current(self._gl):
                self._context.free()
        self._context = None

    def __del__(self):
        self.close()

    def _draw(self, depth: np.ndarray | None, sky: bool, planes: bool) -> None:
        """Draw into self._rgb, and into `depth` where it is given; leave the model unchanged."""
        if self._textures:
            self._upload(sky, planes)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = sky
        groups = self._model.geom_group
        shown = groups[self._planes]
        if not planes:
            groups[self._planes] = HIDDEN_GROUP
        mujoco.mjv_updateScene(
            self._model,
            self._data,
            self._options,
            None,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        groups[self._planes] = shown
        with _current(self._gl):
            # Another renderer may be bound.
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
            mujoco.mjr_render(self._viewport, self._scene, self._context)
            mujoco.mjr_readPixels(self._rgb, depth, self._viewport, self._context)

    def _shrink(self, drawn: np.ndarray) -> np.ndarray:
        """Return an area average at the image's size, top row first (OpenGL's first row is the
        bottom one).
        """
        return cv2.flip(cv2.resize(drawn, (self.size, self.size), interpolation=cv2.INTER_AREA), 0)


@contextlib.contextmanager
def _render_settings(model, drawn: int, coarse: bool):
    """Set the visual settings that MjrContext reads when it is made; restore the model later."""
    size = model.vis.global_
    quality = model.vis.quality
    wanted = [(size, "offwidth", drawn), (size, "offheight", drawn)]
    wanted += [(quality, "offsamples", 0), (quality, "shadowsize", 0)]
    wanted += [(quality, name, value) for name, value in COARSE_MESHES.items() if coarse]
    before = [(group, name, getattr(group, name)) for group, name, _ in wanted]
    sizes = model.geom_size.copy()
    if coarse:
        planes = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
        model.geom_size[planes, 2] = np.maximum(
            sizes[planes, 2], sizes[planes, :2].max(1) / PLANE_CELLS
        )
    for group, name, value in wanted:
        setattr(group, name, value)
    try:
        yield
    finally:
        model.geom_size[:] = sizes
        for group, name, value in before:
            setattr(group, name, value)


def composite(foreground: np.ndarray, alpha: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return foreground + (1 - alpha) background, uint8 (H, W, 3), with foreground over black."""
    uncovered = cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2RGB)
    return cv2.add(foreground, cv2.multiply(background, uncovered, scale=1 / 255))


def colour_rule_mask(picture: np.ndarray) -> np.ndarray:
    """Return the rule of DBC, RePo, TIA and TPC: background is where blue exceeds both red and
    green.

    (H, W, 3) uint8 -> (H, W) bool, True on what is kept. The rule also removes blue parts of
    robots.
    """
    red = picture[..., 0]
    green = picture[..., 1]
    blue = picture[..., 2]
    return ~((blue > red) & (blue > green))
