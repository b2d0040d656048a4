"""API tokens: who may ask. Read from a file, compared in constant time, never logged."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from xtrimogene.errors import ConfigError


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """Digests of tokens by the name of who has each."""

    digests: Mapping[str, bytes]

    @classmethod
    def read(cls, path: Path) -> "Tokens":
        """Read lines of a name and a token, parted by space; empty lines and those that begin with # are passed over.

        Raises
        ------
        ConfigError
            The file cannot be read, or a line is no such pair; the message shows no token.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The tokens file {path} cannot be read ({getattr(error, 'strerror', None) or 'no text'})."
            ) from None
        digests: dict[str, bytes] = {}
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or line.startswith("#"):
                continue
            if len(words) != 2 or words[0] in digests or len(words[1]) < 16:
                raise ConfigError(
                    f"Line {number} of {path} is no 'NAME TOKEN', with a name of its own and a token of at least 16 "
                    "characters; `openssl rand -hex 24` makes one."
                )
            digests[words[0]] = _digest(words[1])
        if not digests:
            raise ConfigError(f"{path} holds no token; write a line 'NAME TOKEN', or leave --tokens out.")
        return cls(digests)

    def holder(self, authorization: str | None) -> str | None:
        """Return whose token an Authorization header holds, or None; takes as long whoever it is."""
        scheme, _, token = (authorization or "").partition(" ")
        given = _digest(token.strip())
        found = None
        for name, digest in self.digests.items():
            if hmac.compare_digest(digest, given) and scheme.lower() == "bearer":
                found = name
        return found


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
