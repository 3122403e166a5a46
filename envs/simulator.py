"""The one place that imports MuJoCo and dm_control: a machine that cannot draw gets one clear line, not a traceback."""

import importlib
import importlib.util
import logging
import os
import warnings

from errors import UserError

# Way to draw -> what is wrong when it fails, and what to do.
FAILURES = {
    "egl": (
        "libEGL is missing or finds no device",
        "run: apt-get install -y libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libopengl0",
    ),
    "osmesa": ("libOSMesa is missing", "run: apt-get install -y libosmesa6, or unset MUJOCO_GL for EGL"),
    "glfw": ("GLFW finds no display", "unset MUJOCO_GL for EGL, which needs none"),
}


def no_drawing() -> UserError:
    """The error for a backend of MUJOCO_GL that does not work."""
    backend = os.environ.get("MUJOCO_GL", "")
    what, remedy = FAILURES.get(backend.lower(), ("nothing can be drawn this way", "choose egl, osmesa or glfw"))
    return UserError(what, f"MUJOCO_GL={backend}", remedy)


# Mesa's software driver and triton (in torch's CUDA build, imported at an optimiser's first step) each bring an LLVM of
# their own. With the driver first, importing triton ends the process by a segmentation fault; this order works.
if importlib.util.find_spec("triton"):
    importlib.import_module("triton")

warnings.filterwarnings("ignore", module="glfw")  # two lines before ours where there is no display
try:
    import mujoco
    from dm_control import _render, suite
    from dm_control.rl.control import PhysicsError
except (ImportError, AttributeError, OSError, RuntimeError) as error:
    if isinstance(error, ModuleNotFoundError):
        raise  # the package itself is not installed: that is what the message should say
    raise no_drawing() from error

# cheetah.xml asks for an attribute that MuJoCo will drop: a line at every environment, about nothing a user can change.
logging.getLogger("absl").addFilter(lambda record: "settotalmass" not in record.getMessage())

__all__ = ["PhysicsError", "_render", "mujoco", "no_drawing", "suite"]
