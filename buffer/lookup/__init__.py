"""Looking up some series of some time, in history and in the log, without reading the rest.

files    which files hold what, while the writer moves, packs, thins and drops them
packed   the tables of a packed file, by its index
rows     those of a segment, by its key frames
table    what both look like
cache    what a process with many queries keeps of them
"""
