"""History: what every destination has settled, kept on purpose, in the folder `history` of a data directory.

A segment file that nobody waits for any more is renamed from `segments` to `history`: nothing is written for that.  No
cursor, ledger or delivery ever looks there.

    keep      which files there are, and which of them go
    work      what is done with them in the background: packing, making coarser, giving up what is too old
    tiers     how it is packed and made coarser, and what is due
    packed    the format of a packed file, its index, and reading columns by it
    columns   the values of one series as bytes
    read      history and the log as one, each position once, in order
"""
