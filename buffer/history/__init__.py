"""History: what every destination has settled, kept on purpose, in the folder `history` of a data directory.

A segment file that nobody waits for any more is renamed from `segments` to `history`: nothing is written for that.  No
cursor, ledger or delivery ever looks there.

    keep      which files there are, and which of them go: by age, and when room is needed
    read      history and the log as one, each position once, in order
"""
