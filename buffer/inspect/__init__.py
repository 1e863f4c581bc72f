"""Inspecting a data directory that another process owns, whether its writer runs, was stopped, or is dead.

Everything here is read-only: nothing takes the writer's lock, or creates, changes or removes a file.  It works on a
read-only copy too.

    scan      one segment file as a whole: what is readable in it, and what is damaged
    status    sizes, backlogs and balances, quickly; and what is in each segment
    verify    every checksum, how the segments join, and the cursors
"""
