"""The one place that imports MuJoCo and dm_control: a machine without EGL gets one clear line, not a traceback."""

from errors import UserError

APT_LINE = "run: apt-get install -y libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libopengl0"
NO_EGL = ("libEGL is missing or finds no device", "MUJOCO_GL=egl", APT_LINE)

try:
    import mujoco
    from dm_control import _render, suite
    from dm_control.rl.control import PhysicsError
except (ImportError, AttributeError, OSError) as error:
    if isinstance(error, ModuleNotFoundError):
        raise  # the package itself is not installed: that is what the message should say
    raise UserError(*NO_EGL) from error

__all__ = ["NO_EGL", "PhysicsError", "_render", "mujoco", "suite"]
