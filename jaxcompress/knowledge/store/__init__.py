"""The store: what the teacher said about every view, on disk.

`plan` tells what would be stored and how large it is, `write` stores it and goes on after a kill,
`open_store` reads it back by (example, view), and `verify` runs the teacher again on a few records.
"""

from __future__ import annotations

from jaxcompress.knowledge.store.capture import intermediates
from jaxcompress.knowledge.store.manifest import Manifest, Record
from jaxcompress.knowledge.store.planning import Teacher, num_bytes, plan
from jaxcompress.knowledge.store.read import Request, Store, open_store
from jaxcompress.knowledge.store.storage import LOGITS, Storage
from jaxcompress.knowledge.store.verifying import Verification, verify
from jaxcompress.knowledge.store.writing import Progress, write

__all__ = [
    "LOGITS",
    "Manifest",
    "Progress",
    "Record",
    "Request",
    "Storage",
    "Store",
    "Teacher",
    "Verification",
    "intermediates",
    "num_bytes",
    "open_store",
    "plan",
    "verify",
    "write",
]
