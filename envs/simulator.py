"""The only module that imports MuJoCo and dm_control; where nothing can be rendered it gives one
clear line.
"""

import importlib
import importlib.util
import logging
import os
import warnings

from foreground.errors import UserError

# Backend -> what is wrong when it fails, and what to do.
FAILURES = {
    "egl": (
        "libEGL is missing or finds no device",
        "run: apt-get install -y libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libopengl0",
    ),
    "osmesa": (
        "libOSMesa is missing",
        "run: apt-get install -y libosmesa6, or unset MUJOCO_GL for EGL",
    ),
    "glfw": ("GLFW finds no display", "unset MUJOCO_GL for EGL, which needs none"),
}


DEVICE = "MUJOCO_EGL_DEVICE_ID"
PLATFORM = "PYOPENGL_PLATFORM"


def check_variables() -> None:
    """Check the environment variables of MuJoCo and PyOpenGL.

    Raises: UserError that names the wrong one.
    """
    backend = os.environ.get("MUJOCO_GL", "").lower()
    platform = os.environ.get(PLATFORM)
    device = os.environ.get(DEVICE)
    if backend in ("egl", "osmesa") and platform and platform != backend:
        raise UserError(
            f"it is {platform}, and MUJOCO_GL is {backend}",
            PLATFORM,
            f"unset it, or set it to {backend}",
        )
    if backend == "egl" and device is not None and not (device.isascii() and device.isdecimal()):
        raise UserError(
            f"it is {device!r}, and not the number of a device",
            DEVICE,
            "give one number from 0, or unset it",
        )


def _of_device(device: str) -> UserError:
    """Return the error for a chosen device that cannot be opened."""
    try:
        from mujoco.egl import egl_ext

        count = len(egl_ext.eglQueryDevicesEXT())
    except Exception:  # EGL is missing
        return UserError(FAILURES["egl"][0], "MUJOCO_GL=egl", FAILURES["egl"][1])
    there = "there is 1 device" if count == 1 else f"there are {count} devices"
    if count and int(device) >= count:
        choice = "choose 0" if count == 1 else f"choose 0 to {count - 1}"
        return UserError(f"it is {device} and {there}", DEVICE, f"{choice}, or unset it")
    return UserError(
        f"device {device} cannot be opened, and {there}", DEVICE, "choose another, or unset it"
    )


def no_drawing() -> UserError:
    """Return the error for a backend of MUJOCO_GL that does not work."""
    backend = os.environ.get("MUJOCO_GL", "")
    if backend.lower() == "egl" and os.environ.get(DEVICE):
        return _of_device(os.environ[DEVICE])
    what, remedy = FAILURES.get(
        backend.lower(), ("nothing can be drawn this way", "choose egl, osmesa or glfw")
    )
    return UserError(what, f"MUJOCO_GL={backend}", remedy)


# Mesa's software driver and triton (in torch's CUDA build, imported at an optimiser's first step)
# each contain an LLVM. With the driver first, importing triton crashes by a segmentation fault;
# this order works.
if importlib.util.find_spec("triton"):
    importlib.import_module("triton")

check_variables()
warnings.filterwarnings("ignore", module="glfw")  # prints two lines without a display
try:
    import mujoco
    from dm_control import _render, suite
    from dm_control.rl.control import PhysicsError
except (ImportError, AttributeError, OSError, RuntimeError) as error:
    if isinstance(error, ModuleNotFoundError):
        raise  # the package is not installed, as the message says
    raise no_drawing() from error


def open_display() -> None:
    """Open the display of MuJoCo's own contexts, with which environments of Gymnasium render.

    They close it at the end of the process, in reverse order. So it must be opened before the
    contexts of dm_control, which need it until they are freed.
    """
    if os.environ.get("MUJOCO_GL", "").lower() == "egl":
        from mujoco.egl import GLContext

        GLContext(1, 1).free()


# cheetah.xml uses a deprecated attribute: a line at every environment that no user can act on.
logging.getLogger("absl").addFilter(lambda record: "settotalmass" not in record.getMessage())

__all__ = ["PhysicsError", "_render", "mujoco", "no_drawing", "open_display", "suite"]
