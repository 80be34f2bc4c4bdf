"""The twin of a fleet: recorded workloads and what no schedule of them can beat.

Reads only the records of the core, never Redis or Celery, so that a figure computed here is
independent of the system it judges.
"""
