"""The store: its format, keys, seal and verification. Knows no device and no cloud
(docs/store-format.md).
"""
