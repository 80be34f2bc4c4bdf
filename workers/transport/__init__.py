"""The balanced transport: kombu's Redis transport with a pop that loses nothing; see docs/transport.md.

`schemes` makes its URLs known, `channel` is what kombu loads by them. `pop` is the one command that
is under way on a connection, `deliver` what becomes of its answer, `qos` and `acks` what is held and
acknowledged, `poll` the turn of the event loop, `fleet` whose messages these are.
"""
