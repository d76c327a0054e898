"""`emu bench`: the same work by every engine this host has, in turn, told with its spread.

A suite gives jobs: something to do, and the ways to do it, one for each engine (work.py).  measure.py goes
round by round through all of them, so that what else the host does meets every engine alike, and keeps each
sample: CPU seconds, which other work on the host disturbs least, and the clock's.  A way that cannot be gone
has a reason instead, and stays in the results as a row that says so.

    work        job, way, sample
    measure     the rounds
    process     whole processes: programs, and machines that tell by marks where they are
    peers       what engines there are, and why others are not
    suites      the table of suites; suite_NAME: one each
    guest_NAME  guests that are made here, so that no compiler is needed
    result      what is stored: JSON, read with distrust; comma: as CSV
    table, page what is shown: on a terminal, and as HTML with pictures (bars)
    compare     two results
    command     the command line
"""
