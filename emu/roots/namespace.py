"""A root that is entered: namespaces in which the caller is root, and what a program expects around it."""

from __future__ import annotations

import errno
import os
import shutil
import stat

from accel.errors import EmuError, Unavailable
from emu import binfmt
from emu.roots import kernel
from emu.roots.keeper import Keeper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
# Of /proc, what root could change the host by.
KERNEL = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi")
# What is left to root inside, by capability.h: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID,
# SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.  Without SYS_ADMIN nothing is
# mounted any more.
CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
TMP = "mode=1777"


class Bind:
    """A file or folder of the host's that is seen at a place inside."""

    def __init__(self, source: str, place: str, read_only: bool = False) -> None:
        self.source = source
        self.place = place
        self.read_only = read_only


class Mapping:
    """Which users and groups there are inside: lines of uid_map and gid_map."""

    def __init__(self, users: str, groups: str, tool: bool) -> None:
        self.users = users
        self.groups = groups
        self.tool = tool  # newuidmap and newgidmap write them

    @property
    def single(self) -> bool:
        return self.users.count("\n") == 1 and self.users.split()[2] == "1"

    @classmethod
    def of_caller(cls) -> Mapping:
        """For root all there are; else the caller as root, and those that /etc/subuid gives it."""
        user, group = os.geteuid(), os.getegid()
        if user == 0:
            return cls(_identity("uid"), _identity("gid"), False)
        users, groups = f"0 {user} 1\n", f"0 {group} 1\n"
        if shutil.which("newuidmap") and shutil.which("newgidmap"):
            more = _subordinate("/etc/subuid", user), _subordinate("/etc/subgid", user)
            if more[0] and more[1]:
                return cls(users + more[0], groups + more[1], True)
        return cls(users, groups, False)


def _identity(kind: str) -> str:
    lines = []
    with open(f"/proc/self/{kind}_map") as file:
        for line in file:
            first, _, count = line.split()
            lines.append(f"{first} {first} {count}\n")
    return "".join(lines)


def _subordinate(path: str, user: int) -> str:
    """The ranges of a user in /etc/subuid, as lines from 1 on."""
    import pwd

    names = {str(user)}
    try:
        names.add(pwd.getpwuid(user).pw_name)
    except KeyError:
        pass
    lines, at = "", 1
    try:
        with open(path) as file:
            for line in file:
                name, _, rest = line.strip().partition(":")
                first, _, count = rest.partition(":")
                if name in names and first.isdigit() and count.isdigit():
                    lines += f"{at} {first} {count}\n"
                    at += int(count)
    except OSError:
        pass
    return lines


def obstacle() -> str:
    """Why this process cannot have namespaces of its own; "" if it can."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        cause = b""
        try:
            kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
            kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_SLAVE)
        except OSError as error:
            cause = (error.strerror or "no reason given").encode()
        os.write(write, cause)
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(child, 0)
    return f"this host refuses user namespaces ({told})" if told else ""


def move(mapping: Mapping, kinds: int) -> None:
    """Moves this process into new namespaces, as their root.  Raises OSError or Unavailable."""
    if mapping.single:
        kernel.unshare(kinds)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", mapping.users)
        _write("/proc/self/gid_map", mapping.groups)
        return
    # Who writes more than one line has to be outside.
    read, write = os.pipe()
    pid = os.getpid()
    helper = os.fork()
    if helper == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(_map(mapping, pid))
    kernel.unshare(kinds)
    os.close(write)
    os.close(read)
    if status := os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1]):
        raise Unavailable(
            f"users cannot be mapped (newuidmap: {status}); look at /etc/subuid and /etc/subgid"
        )
    os.setgid(0)
    os.setuid(0)


def _map(mapping: Mapping, pid: int) -> int:
    if not mapping.tool:
        try:
            _write(f"/proc/{pid}/uid_map", mapping.users)
            _write(f"/proc/{pid}/gid_map", mapping.groups)
        except OSError as error:
            return error.errno or 1
        return 0
    for tool, lines in (("newuidmap", mapping.users), ("newgidmap", mapping.groups)):
        words = [tool, str(pid), *lines.split()]
        if status := os.waitstatus_to_exitcode(os.waitpid(os.spawnvp(os.P_NOWAIT, tool, words), 0)[1]):
            return status
    return 0


class Namespace:
    """What enter() makes: all paths but `root` and the binds' sources are as seen from inside."""

    def __init__(
        self,
        root: str,
        *,
        binds: Sequence[Bind] = (),
        read_only: bool = False,
        network: bool = True,
        devices: Sequence[str] = (),
        user: str = "",
        workdir: str = "/",
        foreign: str = "",
    ) -> None:
        self.root = os.path.realpath(root)
        self.binds = binds
        self.read_only = read_only
        self.network = network
        self.devices = (*DEVICES, *devices)
        self.user = user
        self.workdir = workdir
        self.foreign = foreign  # the isa whose programs the host cannot run
        self.mapping = Mapping.of_caller()

    def enter(self) -> None:
        """Returns in a process whose "/" is the root; the caller's own waits for it and ends as it does.

        Modules that are not loaded by then cannot be.  Raises an EmuError in whichever process something
        cannot be done.
        """
        keeper = Keeper()
        kinds = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID
        if not self.network:
            kinds |= kernel.CLONE_NEWNET
        move(self.mapping, kinds)
        kernel.refuse_typing()
        keeper.keep(self._furnish)
        self._take_identity()

    def _furnish(self) -> None:
        """Mounts what there is to be, and goes there; in the new process 1."""
        try:
            kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_SLAVE)
            kernel.mount(self.root, self.root, flags=kernel.MS_BIND | kernel.MS_REC)
            top = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._mount_kernel(top)
            self._mount_dev(top)
            kernel.mount("tmpfs", _place(top, "/tmp", True), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, TMP)
            if self.network:
                self._mount_resolver(top)
            for bind in self.binds:
                place = _place(top, bind.place, os.path.isdir(bind.source))
                kernel.mount(bind.source, place, flags=kernel.MS_BIND | kernel.MS_REC)
                if bind.read_only:
                    kernel.read_only(place, recursive=True)
            if self.read_only:
                kernel.read_only(self.root)
            if self.foreign:
                self._register()
            kernel.become_root_directory(self.root)
            os.close(top)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise EmuError(f"the root {self.root} cannot be set up: {where}{error.strerror}") from None

    def _register(self) -> None:
        """The kernel runs foreign programs by emu in here, when the host's own programs start some.

        Only Linux 6.7 has a binfmt_misc for each user namespace; what emu runs needs none.
        """
        try:
            binfmt.register_here(self.foreign)
        except (OSError, EmuError):
            pass

    def _mount_kernel(self, top: int) -> None:
        """/proc and /sys, in which nothing of the host's can be changed."""
        safe = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
        place = _place(top, "/proc", True)
        try:
            kernel.mount("proc", place, "proc", safe)
        except OSError as error:
            # In a container whose own /proc is covered in part: what there is of it.
            if error.errno != errno.EPERM:
                raise
            kernel.mount("/proc", place, flags=kernel.MS_BIND | kernel.MS_REC)
        for name in KERNEL:
            inside = f"{place}/{name}"
            if os.path.exists(inside):
                kernel.mount(inside, inside, flags=kernel.MS_BIND | kernel.MS_REC)
                kernel.read_only(inside, recursive=True)
        place = _place(top, "/sys", True)
        if self.network:
            kernel.mount("/sys", place, flags=kernel.MS_BIND | kernel.MS_REC)
            kernel.read_only(place, recursive=True)
        else:
            kernel.mount("sysfs", place, "sysfs", safe | kernel.MS_RDONLY)

    def _mount_dev(self, top: int) -> None:
        flags = kernel.MS_NOSUID | kernel.MS_NOEXEC
        place = _place(top, "/dev", True)
        kernel.mount("tmpfs", place, "tmpfs", flags, "mode=755,size=65536k")
        dev = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in self.devices:
            if os.path.exists(f"/dev/{name}"):
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=dev))
                kernel.mount(f"/dev/{name}", f"{place}/{name}", flags=kernel.MS_BIND)
        for name, target in LINKS.items():
            os.symlink(target, name, dir_fd=dev)
        os.mkdir("pts", dir_fd=dev)
        os.mkdir("shm", dir_fd=dev)
        group = "" if self.mapping.single else ",gid=5"
        kernel.mount("devpts", f"{place}/pts", "devpts", flags, f"newinstance,ptmxmode=0666,mode=620{group}")
        kernel.mount("shm", f"{place}/shm", "tmpfs", flags | kernel.MS_NODEV, TMP)
        if console := _terminal_name():
            os.close(os.open("console", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=dev))
            kernel.mount(console, f"{place}/console", flags=kernel.MS_BIND)
        os.close(dev)

    def _mount_resolver(self, top: int) -> None:
        """The host's resolv.conf in the place of the root's own, wherever in it that is."""
        host = os.path.realpath("/etc/resolv.conf")
        if os.path.isfile(host):
            try:
                place = _place(top, "/etc/resolv.conf", False)
            except OSError:
                return  # a root that has no /etc, or a link to nowhere, asks no name servers
            kernel.mount(host, place, flags=kernel.MS_BIND)

    def _take_identity(self) -> None:
        """The program's user and folder."""
        user = User.find(self.user or "0")
        kernel.keep_capabilities(CAPABILITIES)
        if (user.number, user.group) != (0, 0):
            try:
                if not self.mapping.single:
                    os.setgroups(user.groups)
                os.setgid(user.group)
                os.setuid(user.number)
            except OSError as error:
                raise EmuError(
                    f"user {self.user} cannot be taken ({error.strerror}): there is only root inside where"
                    " /etc/subuid gives you no other users, and newuidmap (package uidmap) is to use them"
                ) from None
        try:
            os.chdir(self.workdir)
        except OSError as error:
            raise EmuError(f"--workdir {self.workdir}: {error.strerror}; name a folder of the root") from None


class User:
    """A line of a root's /etc/passwd, or the numbers alone."""

    def __init__(self, number: int, group: int, groups: list[int], name: str, home: str, shell: str) -> None:
        self.number = number
        self.group = group
        self.groups = groups
        self.name = name
        self.home = home
        self.shell = shell

    @classmethod
    def find(cls, words: str, top: int | None = None) -> User:
        """By NAME[:GROUP], either of which may be a number; top: the root's directory, None: "/"."""
        word, _, group_word = words.partition(":")
        lines = _lines(top, "/etc/passwd")
        found = next((line for line in lines if len(line) >= 7 and word in (line[0], line[2])), None)
        if found is None and not word.isdigit():
            raise EmuError(
                f"the root has no user {word!r}; its /etc/passwd has them, and a number always works"
            )
        number = int(found[2] if found else word)
        name, home, shell = (found[0], found[5], found[6]) if found else ("", "/", "")
        group = int(found[3]) if found else 0
        lines = _lines(top, "/etc/group")
        if group_word:
            entry = next(
                (line for line in lines if len(line) >= 3 and group_word in (line[0], line[2])), None
            )
            if entry is None and not group_word.isdigit():
                raise EmuError(f"the root has no group {group_word!r}; its /etc/group has them")
            group = int(entry[2] if entry else group_word)
        groups = [int(line[2]) for line in lines if len(line) >= 4 and name and name in line[3].split(",")]
        return cls(number, group, [group, *groups], name, home, shell)


def _lines(top: int | None, path: str) -> list[list[str]]:
    try:
        if top is None:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        else:
            fd = kernel.open_in(top, path, os.O_RDONLY | os.O_NONBLOCK)
        with open(fd, errors="surrogateescape") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return []
            fields = [line.rstrip("\n").split(":") for line in file.read(1 << 20).splitlines()]
    except OSError:
        return []
    return [line for line in fields if len(line) >= 3 and line[2].isdigit() and len(line[2]) < 10]


def _place(top: int, path: str, folder: bool) -> str:
    """Where `path` of the root is for mount(2); made if it is not there."""
    at, real, rest = "/", "", [part for part in path.split("/") if part]
    for number, part in enumerate(rest):
        last = number == len(rest) - 1
        at = os.path.join(at, part)
        try:
            fd = kernel.open_in(top, at, os.O_PATH)
        except FileNotFoundError:
            parent = kernel.open_in(top, os.path.dirname(at), os.O_PATH | os.O_DIRECTORY)
            try:
                if last and not folder:
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                    os.close(os.open(part, flags, 0o644, dir_fd=parent))
                else:
                    os.mkdir(part, 0o755, dir_fd=parent)
            finally:
                os.close(parent)
            fd = kernel.open_in(top, at, os.O_PATH)
        real = os.readlink(f"/proc/self/fd/{fd}")
        os.close(fd)
    return real


def _terminal_name() -> str:
    """The caller's terminal, whose name under /dev/pts nothing inside has."""
    for fd in (0, 1, 2):
        try:
            return os.ttyname(fd)
        except OSError:
            continue
    return ""


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
