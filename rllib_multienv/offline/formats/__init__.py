"""Formats of data sets, one module each.

`check(source)` raises unless the data set is there, without reading it. `peek(env_id, source)` returns its spaces and
reads as little as possible. `read(source, store=...)` returns a `RawDataset`. Modules that also write have
`check_new(name)` and `write(name, raw)`.
"""
