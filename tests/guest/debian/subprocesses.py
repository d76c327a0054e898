#!/usr/bin/python3
"""Python's subprocess, os and multiprocessing: children of every kind, and what becomes of them."""

import errno
import multiprocessing
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from multiprocessing import shared_memory


def copy(fd):
    data = os.read(fd, 1024)
    text.append(data)
    return b""


def square(n):
    return n * n


def serve(pipe, queue):
    queue.put([pipe.recv() * 2, os.getppid() == parent])
    pipe.close()


def main():
    global text, parent
    run = subprocess.run
    print(run(["/bin/echo", "out"], capture_output=True, text=True))
    print(run("echo $0; exit 3", shell=True, stdout=subprocess.PIPE).returncode)
    print(run(["tr", "a-z", "A-Z"], input="input", capture_output=True, text=True).stdout)
    print(run(["sh", "-c", "echo err >&2"], stderr=subprocess.PIPE).stderr)
    print(
        run(
            [sys.executable, "-c", "import sys; print(sys.argv, sys.executable)", "a b"],
            capture_output=True,
            text=True,
        ).stdout
    )
    print(
        run(["sh", "-c", "kill -9 $$"]).returncode,
        run(["sh", "-c", "kill -SEGV $$"], stderr=subprocess.DEVNULL).returncode,
    )
    for words in (["/nowhere/program"], ["/etc/passwd"], ["/"]):
        try:
            run(words)
        except OSError as error:
            print(type(error).__name__, errno.errorcode[error.errno])
    try:
        run(["sleep", "100"], timeout=0.2)
    except subprocess.TimeoutExpired as error:
        print("timeout", round(error.timeout, 1))
    try:
        run(["false"], check=True)
    except subprocess.CalledProcessError as error:
        print(error)
    big = b"x" * 1_000_000
    print(len(run(["cat"], input=big, stdout=subprocess.PIPE).stdout))
    first = subprocess.Popen(["seq", "100000"], stdout=subprocess.PIPE)
    second = subprocess.Popen(["tail", "-n", "1"], stdin=first.stdout, stdout=subprocess.PIPE, text=True)
    first.stdout.close()
    print(second.communicate()[0], first.wait())
    yes = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    yes.stdout.read(10)
    yes.stdout.close()
    print("yes ended with", yes.wait())
    print(run(["env"], env={"ONLY": "this"}, capture_output=True, text=True).stdout)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        print(
            os.path.basename(run(["pwd"], cwd=folder, capture_output=True, text=True).stdout.strip())
            == os.path.basename(folder)
        )
    print(
        run(
            ["sh", "-c", "umask; exec ps -o comm= -p $$"],
            umask=0o77,
            start_new_session=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    print(
        run(
            ["sh", "-c", "ulimit -n"],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
            capture_output=True,
            text=True,
        ).stdout
    )
    read, write = os.pipe()
    child = subprocess.Popen(["sh", "-c", f"echo by descriptor >&{write}"], pass_fds=[write])
    os.close(write)
    print(os.read(read, 100), child.wait())
    child = subprocess.Popen(["sleep", "100"])
    child.send_signal(signal.SIGSTOP)
    print(os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1]))
    child.send_signal(signal.SIGCONT)
    print(os.WIFCONTINUED(os.waitpid(child.pid, os.WCONTINUED)[1]))
    child.terminate()
    print(
        child.wait(),
        subprocess.getstatusoutput("echo both; exit 4"),
        subprocess.check_output(["echo", "checked"]),
    )

    print(
        os.system("exit 5") >> 8,
        os.popen("echo popen").read(),
        os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "exit 6"),
    )
    pid = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", "exit 7"],
        {},
        setpgroup=0,
        setsigmask=[signal.SIGUSR1],
        setsigdef=[signal.SIGPIPE],
    )
    info = os.waitid(os.P_PID, pid, os.WEXITED)
    print(info.si_status, info.si_code == os.CLD_EXITED, info.si_pid == pid)
    pid = os.fork()
    if pid == 0:
        os.execvpe("sh", ["renamed", "-c", "echo $0 $X; exit 8"], {"X": "y", "PATH": os.environ["PATH"]})
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    child = subprocess.Popen(["true"])
    fd = os.pidfd_open(child.pid)
    print(os.waitid(os.P_PIDFD, fd, os.WEXITED).si_status)
    try:
        os.waitpid(-1, 0)
    except ChildProcessError as error:
        print(errno.errorcode[error.errno])
    text = []
    sys.stdout.flush()
    status = pty.spawn(
        ["sh", "-c", "tty | grep -c pts; stty -a | grep -c speed; test -t 1 && echo terminal"], copy
    )
    print(os.waitstatus_to_exitcode(status), b"".join(text).split())

    parent = os.getpid()
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        if method == "fork":
            here, there = context.Pipe()
            answers = context.Queue()
            process = context.Process(target=serve, args=(there, answers))
            process.start()
            here.send(21)
            print(answers.get(timeout=60), process.join(), process.exitcode)
            with context.Pool(3) as pool:
                print(pool.map(square, range(10)), pool.apply_async(square, (12,)).get(60))
            value, array = context.Value("i", 5), context.Array("d", [1.5, 2.5])
            process = context.Process(target=lambda: (setattr(value, "value", 6), array.__setitem__(0, 9.5)))
            process.start()
            process.join()
            print(value.value, array[:])
            with context.Manager() as manager:
                shared = manager.dict()
                process = context.Process(target=shared.update, args=({"from": "child"},))
                process.start()
                process.join()
                print(dict(shared))
        else:
            process = context.Process(target=abs, args=(-1,))
            process.start()
            process.join(60)
            print(method, process.exitcode)
    memory = shared_memory.SharedMemory(create=True, size=100)
    pid = os.fork()
    if pid == 0:
        memory.buf[:5] = b"hello"
        os._exit(0)
    os.waitpid(pid, 0)
    print(bytes(memory.buf[:5]))
    memory.close()
    memory.unlink()
    print(
        shutil.which("sh"), os.path.exists("/proc/self/exe"), os.path.basename(os.readlink("/proc/self/exe"))
    )


if __name__ == "__main__":
    main()
