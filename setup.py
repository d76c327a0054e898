"""bin/emu is a program of its own where the translator can run; elsewhere the script that starts Python."""

import os
import platform
import runpy
import sys
import sysconfig
from distutils.command.build_scripts import build_scripts

from setuptools import setup


class Launcher(build_scripts):
    """Links emu/cli/native/emu.c with the objects of the extension modules."""

    def copy_scripts(self):
        if platform.machine() == "x86_64":
            self.scripts = [script for script in self.scripts if script != "scripts/emu"]
            self._link()
        return super().copy_scripts()

    def _link(self):
        self.run_command("build_ext")
        build = self.get_finalized_command("build_ext")
        compiler, temp = build.compiler, build.build_temp
        # The devices are not in it: whole machines are Python's.
        linked = [ext for ext in build.extensions if ext.name in ("accel._core", "emu._native")]
        subcommands = runpy.run_path("emu/cli/__init__.py")["SUBCOMMANDS"]
        macros = {
            "EMU_PYTHON": '"python{}.{}"'.format(*sys.version_info),
            "EMU_PACKAGES": f'"{os.path.relpath(*map(sysconfig.get_path, ("platlib", "scripts")))}"',
            "EMU_SUBCOMMANDS": ",".join(f'"{name}"' for name in subcommands),
        }
        objects = compiler.compile(
            ["emu/cli/native/emu.c"],
            output_dir=temp,
            macros=list(macros.items()),
            include_dirs=linked[-1].include_dirs,
            extra_postargs=linked[-1].extra_compile_args,
        )
        sources = [
            source for ext in linked for source in ext.sources if source.startswith(("accel/", "emu/"))
        ]
        objects += compiler.object_filenames(sources, output_dir=temp)
        compiler.link_executable(
            objects, "emu", output_dir=self.build_dir, extra_postargs=["-pie", "-pthread"]
        )


setup(
    cffi_modules=["accel/native/build.py:ffi", "emu/native/build.py:ffi", "emu/devices/native/build.py:ffi"],
    cmdclass={"build_scripts": Launcher},
)
