"""HMP: commands that do something."""

from __future__ import annotations

from emu.monitor.hmp import Hmp, Rest, help_of, hmp


@hmp("help", "?")
def help(monitor: Hmp, command: Rest | None = None) -> str:
    """Tells what commands there are, or about one."""
    return help_of((command or "").strip())


@hmp("stop", "s")
def stop(monitor: Hmp) -> None:
    """Holds the machine."""
    monitor.run.stop()


@hmp("cont", "c")
def cont(monitor: Hmp) -> None:
    """Lets the machine run."""
    monitor.run.cont()


@hmp("system_reset")
def system_reset(monitor: Hmp) -> None:
    """Resets the machine."""
    monitor.run.reset()


@hmp("system_powerdown")
def system_powerdown(monitor: Hmp) -> None:
    """Presses the power button."""
    monitor.run.powerdown()


@hmp("switch")
def switch(monitor: Hmp, accel: str) -> str:
    """Moves the guest to another accelerator, kvm or tcg, where it goes on."""
    machine = monitor.run.machine
    machine.switch(accel)
    return f"the guest runs on {machine.accel_name}\n"


@hmp("quit", "q")
def quit(monitor: Hmp) -> None:
    """Ends the machine and emu."""
    monitor.run.quit()


@hmp("cpu")
def cpu(monitor: Hmp, index: int) -> None:
    """Chooses the CPU whose registers the commands after it mean."""
    monitor.choose_cpu(index)


@hmp("print", "p")
def print_(monitor: Hmp, value: int) -> str:
    """Shows the value of an expression, as 2*(3+$pc)."""
    return f"{value if value < 1 << 63 else value - (1 << 64)} ({value:#x})\n"
