"""`emu shell debian-arm64`: a small Debian with apt, which its own dpkg installs, run by emu."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from emu.images.debian import Installation
from emu.images.owners import Owners
from emu.images.progress import Progress
from emu.samples.debian import archives, lay_out, sources, unpack

ARCHITECTURE = "arm64"
PACKAGES = ("?essential", "?priority(required)", "apt", "debian-archive-keyring", "ca-certificates")
FILES = {
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    # Kept out of a container: what starts services, and pages that nobody reads there.
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
    "etc/apt/apt.conf.d/emu": 'APT::Install-Recommends "false";\n',
}
# apt gives up root's rights for one of another user, which there is none of.
ALONE = 'APT::Sandbox::User "root";\n'


def make(title: str, folder: str, alone: bool) -> None:
    """Makes folder/root.  alone: inside, root is the only user.  Raises an EmuError where something fails."""
    root, debs = Path(folder, "root"), Path(folder, "debs")
    debs.mkdir()
    with Progress(title) as progress, Owners() as known:
        owners = None if os.geteuid() == 0 else known
        progress.step("fetching packages")
        packages = archives(PACKAGES, ARCHITECTURE, debs)
        progress.step("unpacking", len(packages))
        lay_out(root)
        for package in packages:
            for place, user, group in unpack(package, root):
                if owners is None:
                    os.chown(root / place, user, group)
                else:
                    owners.give(root / place, user, group)
            progress.advance()
        with Installation(root, packages, owners) as guest:
            progress.step("installing", len(packages))
            guest.unpack(progress.advance)
            progress.step("configuring", len(packages))
            guest.configure(progress.advance)
    for path, text in FILES.items():
        (root / path).write_text(text)
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    if alone:
        with open(root / "etc/apt/apt.conf.d/emu", "a") as file:
            file.write(ALONE)
    (root / "etc/apt/sources.list").write_text(sources(ARCHITECTURE))
    shutil.rmtree(debs)
