"""Formats of data sets, one module each.

`check(source)` raises unless the data set is there, without reading it. `peek(env_id, source)` returns its spaces and
reads as little as possible. `read(source, store=...)` returns a `RawDataset`. They raise FileNotFoundError where the
data set is not on this machine, ImportError where a package is missing, UnsupportedSpaceError where networks cannot
take the spaces, and DatasetError, with file, key and index, where the data set is damaged or not as expected.

Modules that also write have `check_new(name)` and `write(name, raw)`. These raise FileExistsError where the data set is
there already, and ValueError where its name is not allowed.
"""
