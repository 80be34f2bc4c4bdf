"""A whole fleet on one machine, disturbed on purpose, and judged by someone else's books.

`celery -A workers.demo_app balancer demo` starts Redis, workers on emulated and real hardware,
beat and Flower, sends real jobs, kills and slows workers, and says what came of it. GPUs are
emulated at measured speeds and called so wherever they show; the CPU work is real.
"""
