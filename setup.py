"""The compiled operations: pyproject.toml cannot give a compiler its own flags."""

import hashlib
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FLAGS = {
    # Nobody looks at errno and at floating-point exceptions. Products are fused with sums where the code says so and nowhere
    # else, whatever the compiler's habit: instruction sets that can give the same bits.
    "unix": ["-O3", "-std=c11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"],
    "msvc": ["/O2"],
}
NATIVE = "backends/_native"
LOOPS = "unilossseg.backends._loops"
# Free-threaded Python has no limited API, which setuptools refuses to build for: NumPy does the work, and a call says so.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def sources():
    """A digest of what the loops are compiled from: they keep it, and a conformance run compares those of its workers."""
    digest = hashlib.sha256()
    for path in sorted(Path(NATIVE).glob("*.[ch]")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:16]


class BuildLoops(build_ext):
    """With the flags of the compiler that is found."""

    def build_extension(self, ext):
        """Without a compiler the package is built all the same: NumPy then does the work, and a call says so."""
        ext.extra_compile_args = FLAGS.get(self.compiler.compiler_type, [])
        super().build_extension(ext)


class Wheel(bdist_wheel):
    """Named after what is in it."""

    def get_tag(self):
        """Without the loops a wheel fits every platform, and must not pass for one that has them."""
        built = Path(self.get_finalized_command("build_ext").get_ext_fullpath(LOOPS)).exists()
        return super().get_tag() if built else ("py3", "none", "any")


setup(
    ext_modules=[]
    if FREE_THREADED
    else [
        Extension(
            LOOPS,
            sources=[f"{NATIVE}/module.c"],
            depends=sorted(str(header) for header in Path(NATIVE).glob("*.h")),
            define_macros=[("Py_LIMITED_API", "0x030B0000"), ("SOURCES", sources())],
            py_limited_api=True,
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildLoops, "bdist_wheel": Wheel},
    options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
