"""KV pages from device to device: layout, grants, the transfer protocol, and the wires under it."""
