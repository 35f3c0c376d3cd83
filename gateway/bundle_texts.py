"""The files that every bundle has, whoever makes it: how to verify it, and a verifier."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from zentra.runtime.evidence.bundle import TEXTS

__all__ = ["BUNDLE_TEXTS", "bundle_texts"]

BUNDLE_TEXTS: Final = TEXTS

_README: Final = """\
Evidence of Zentra: a range of one tenant's log, with everything that it takes to verify it.

  manifest.json           every other file, with its SHA-256; manifest.sig.json has the signature over it (DSSE 1.0.0)
  checkpoints/            the signed heads of the log at both ends of the range (C2SP signed notes)
  proofs.json             what joins the two: the subtrees of the log at the beginning (RFC 6962)
  leaves/                 one line per leaf of the log: its exact bytes, its place, the hashes of the records it seals
  earlier/                leaves from before the range that addenda in it follow, each with its proof (RFC 6962)
  entries/                one line per record, exactly as it was sealed, in the order of the leaves
  denials/                what was refused to whom, by the minute
  exports/                who exported evidence, and when
  keys.json               the public keys, for convenience
  verify.py               a verifier that needs nothing but Python

To verify, get the public key and, where you have one, a checkpoint that you kept, by another way than this file:

  python3 verify.py BUNDLE.tar pub.pem --anchor kept.checkpoint
  zentra evidence verify BUNDLE.tar --key pub.pem --anchor kept.checkpoint

0: nothing was changed and nothing is missing. 1: something was changed. 2: something is missing. What no checkpoint of
yours covers could have been cut off at the end before it was exported: keep one from time to time. Intents that had not
settled stand in no log yet; the verdict says how many there were (not sealed).
"""


def bundle_texts() -> dict[str, bytes]:
    """Return the files that every bundle has, by their names."""
    verifier = files("zentra.gateway.cli").joinpath("standalone.py").read_bytes()
    return dict(zip(BUNDLE_TEXTS, (_README.encode(), verifier), strict=True))
