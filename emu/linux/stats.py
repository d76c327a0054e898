"""Counts and times by system call, as `strace -c` prints them; the time is what passed, as with its -w."""

from __future__ import annotations


def table(counts: dict[str, tuple[int, int, int]]) -> str:
    """The table of calls, errors and nanoseconds by name, longest first; "" is for numbers without a call."""
    rule = f"{'-' * 6} {'-' * 11} {'-' * 11} {'-' * 9} {'-' * 9} {'-' * 16}"
    lines = [f"{'% time':>6} {'seconds':>11} {'usecs/call':>11} {'calls':>9} {'errors':>9} syscall", rule]
    total = sum(ns for _, _, ns in counts.values())
    for name, (calls, errors, ns) in sorted(counts.items(), key=lambda each: (-each[1][2], each[0])):
        share = 100 * ns / total if total else 0
        mean = ns // calls // 1000
        lines.append(f"{share:6.2f} {ns / 1e9:11.6f} {mean:11} {calls:9} {errors or '':>9} {name or '?'}")
    calls, errors = (sum(each[n] for each in counts.values()) for n in (0, 1))
    mean = total // calls // 1000 if calls else 0
    lines += [rule, f"{100:6.2f} {total / 1e9:11.6f} {mean:11} {calls:9} {errors or '':>9} total"]
    return "\n".join(lines) + "\n"


def engine(translated: int, elsewhere: int) -> str:
    """A line about the translator; "" where it has not been at work."""
    if not translated and not elsewhere:
        return ""
    return f"{translated} instructions of the guest translated; {elsewhere} times one was left to Unicorn\n"
