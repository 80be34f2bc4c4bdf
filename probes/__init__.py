"""What a node is and how it fares: one file a kind of hardware, `detect` to choose, `sample` to read.

First station of the flow (probes → store → fleet → …). Everything here speaks
`balancer.model` records; vendor libraries are imported late, and what cannot be read is `None`.
"""
