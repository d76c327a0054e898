"""C is compiled on all of the host's CPUs; bin/emu is a program of its own where the translator can run.

Elsewhere it is the script that starts Python.

bin/emu-binfmt is one, too, without libraries; only emu binfmt needs it: a host that cannot link it has none.
"""

import os
import platform
import runpy
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from distutils.command.build_scripts import build_scripts
from distutils.errors import LinkError

from setuptools import setup
from setuptools.command.build_ext import build_ext


class Parallel(build_ext):
    """Compiles an extension's sources at the same time, which setuptools does one after another."""

    def build_extensions(self):
        compiler = self.compiler
        compile_all, compile_one = compiler.compile, compiler._compile

        def compile(*words, **named):
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                begun = []
                compiler._compile = lambda *each: begun.append(pool.submit(compile_one, *each))
                try:
                    objects = compile_all(*words, **named)
                    for one in begun:
                        one.result()  # raises what the compiler's failure raised
                finally:
                    for one in begun:
                        one.cancel()
                    compiler._compile = compile_one
            return objects

        compiler.compile = compile
        super().build_extensions()


class Launcher(build_scripts):
    """Links emu/cli/native/emu.c and binfmt.c with the objects of the extension modules."""

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
        emu, binfmt = compiler.compile(
            ["emu/cli/native/emu.c", "emu/cli/native/binfmt.c"],
            output_dir=temp,
            macros=list(macros.items()),
            include_dirs=linked[-1].include_dirs,
            extra_postargs=linked[-1].extra_compile_args,
        )
        sources = [
            source for ext in linked for source in ext.sources if source.startswith(("accel/", "emu/"))
        ]
        self._program("emu", emu, sources, "-pie")
        engine = ("accel/native/a64", "accel/native/translate", "emu/")
        translator = [source for source in sources if source.startswith(engine)]
        try:
            self._program("emu-binfmt", binfmt, translator, "-static-pie", "-s")
        except LinkError:
            print("emu-binfmt is left out: this host has no static C library to link with")

    def _program(self, name, start, sources, *options):
        build = self.get_finalized_command("build_ext")
        objects = build.compiler.object_filenames(sources, output_dir=build.build_temp)
        build.compiler.link_executable(
            [start, *objects], name, output_dir=self.build_dir, extra_postargs=[*options, "-pthread"]
        )


setup(
    cffi_modules=["accel/native/build.py:ffi", "emu/native/build.py:ffi", "emu/devices/native/build.py:ffi"],
    cmdclass={"build_ext": Parallel, "build_scripts": Launcher},
)
