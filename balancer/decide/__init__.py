"""The decision core: fleet and memory in, orders and moves with their reasons out.

Pure: numpy and arithmetic only. Time is `Fleet.at`; nothing here reads a clock, a file or the
network. `engine` tells the tick on one page.
"""
