"""What the ledger shows: rows by SQL (`questions`), pictures (`charts`), one page (`page`).

The last step of the flow, after the record. It is given a way to ask the ledger and opens
nothing itself; Altair and vl-convert (extra `report`) are imported late.
"""
