"""`emu trace`: what runs, as text, JSON lines or a picture; coverage and profiles.

command.py   the command line
program.py   a Linux program that is traced; machine.py: a machine
record.py    what engines tell (accel/native/trace.h), read from their ring
session.py   who is told what: from records to writers
filters.py   which instructions, threads and devices
symbols.py   what is mapped where, and what it is called there
disassembly.py  instructions as text, and registers by name
text.py, jsonl.py, perfetto.py  writers, one a format
drcov.py, flame.py  coverage and profiles
"""
