"""Print what is missing for drawing without a window, or nothing; exit status 1 or 0.

Runs before .venv exists, so with the standard library alone. It goes the way MuJoCo goes: a display
from one of EGL's devices, then a desktop OpenGL context. A library that merely lies on the disk
does not prove that there is a driver.
"""

import ctypes
import sys

EGL_PLATFORM_DEVICE = 0x313F
EGL_OPENGL_API = 0x30A2
# SURFACE_TYPE PBUFFER, RENDERABLE_TYPE OPENGL, NONE.
CONFIG = (0x3033, 0x0001, 0x3040, 0x0008, 0x3038)
MAX_DEVICES = 16


def load(*names: str) -> ctypes.CDLL | None:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def opens_context(egl: ctypes.CDLL, display: ctypes.c_void_p) -> bool:
    if not egl.eglInitialize(display, None, None):
        return False
    config, count = ctypes.c_void_p(), ctypes.c_int()
    wanted = (ctypes.c_int * len(CONFIG))(*CONFIG)
    if not (
        egl.eglChooseConfig(display, wanted, ctypes.byref(config), 1, ctypes.byref(count))
        and count.value
    ):
        return False
    return bool(
        egl.eglBindAPI(EGL_OPENGL_API) and egl.eglCreateContext(display, config, None, None)
    )


def missing() -> str:
    egl = load("libEGL.so.1")
    if egl is None:
        return "libEGL.so.1 is not installed"
    if load("libOpenGL.so.0", "libGL.so.1") is None:
        return "neither libOpenGL.so.0 nor libGL.so.1 is installed"
    for name in ("eglGetProcAddress", "eglCreateContext"):
        getattr(egl, name).restype = ctypes.c_void_p
    pointer = ctypes.c_void_p
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    egl.eglInitialize.argtypes = [pointer] * 3
    egl.eglChooseConfig.argtypes = [pointer, pointer, pointer, ctypes.c_int, pointer]
    egl.eglCreateContext.argtypes = [pointer] * 4

    query = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    platform_display = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    if not query or not platform_display:
        return "this EGL cannot list its devices"
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointer, pointer)(query)
    platform_display = ctypes.CFUNCTYPE(pointer, ctypes.c_uint, pointer, pointer)(platform_display)

    devices, count = (pointer * MAX_DEVICES)(), ctypes.c_int()
    if not query(MAX_DEVICES, devices, ctypes.byref(count)):
        return "EGL lists no devices"
    displays = (
        platform_display(EGL_PLATFORM_DEVICE, device, None) for device in devices[: count.value]
    )
    if not any(opens_context(egl, display) for display in displays if display):
        return "EGL has no driver that opens an OpenGL context"
    return ""


if __name__ == "__main__":
    reason = missing()
    print(reason, end="")
    sys.exit(1 if reason else 0)
