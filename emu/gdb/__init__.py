"""GDB's remote serial protocol: debuggers look at machines and programs ("Debugging with GDB", appendix E).

protocol.py  packets out of bytes and back: pure
stub.py      what a client may ask, and the answers: pure, over a Target
target.py    what a stub needs of what is debugged
machine.py   a Machine as a Target; process.py: a Linux program as one
sockets.py   where clients connect to; server.py: those of a machine, in its loop
"""
