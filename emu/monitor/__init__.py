"""Monitors: a running machine seen and steered from outside, by programs (QMP) and by people (HMP).

    json_stream.py  bytes to JSON values        qmp.py, hmp.py  the two protocols, without sockets
    command.py      what a command is           schema.py       what query-qmp-schema tells of them
    events.py       what is told unasked        server.py       sockets, and who is connected
    commands_*.py   the commands, a file a group

A command is a typed function; its arguments, schema and documentation are its signature and docstring.
Commands run in the loop's thread, one at a time.  The states that they lead through are emu/run_state.py's.

The protocol is QEMU's, so that its clients work: docs/interop/qmp-spec and the names of qapi/*.json.
"""
