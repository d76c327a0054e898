from setuptools import setup

setup(cffi_modules=["accel/native/build.py:ffi", "emu/native/build.py:ffi"])
