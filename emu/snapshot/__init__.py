"""Snapshots: a whole machine in a file or a stream, and back.

values.py is how plain values are written, stream.py the sections and their checksums, ram.py memory, state.py
what of a machine goes in, save.py who writes and reads it.  Disks are not in it: they are as they are.
"""
