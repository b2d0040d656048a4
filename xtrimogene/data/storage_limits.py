"""How much a file may declare, given how much it stores."""

from dataclasses import dataclass
from pathlib import Path

from xtrimogene.errors import UnsafeFileError

MAX_DEPTH = 32
MAX_MEMBERS = 100_000
MAX_RATIO = 1_100  # deflate cannot pass 1,032 : 1
SMALL_ARRAY = 64 << 20  # below this a single array is harmless, whatever it stores
SMALL_FILE = 1 << 30


@dataclass
class StoredSizes:
    """Running sums over one file, refused as soon as they cannot be honest."""

    path: Path
    file_size: int
    num_members: int = 0
    declared: int = 0
    stored: int = 0

    def add_members(self, number: int) -> None:
        self.num_members += number
        if self.num_members > MAX_MEMBERS:
            raise UnsafeFileError(
                f"{self.path}: more than {MAX_MEMBERS:,} groups and arrays, which no AnnData needs; do not use it."
            )

    def add_array(self, name: str, declared: int, stored: int) -> None:
        self.declared += declared
        self.stored += stored
        if declared > SMALL_ARRAY and declared > MAX_RATIO * stored:
            raise UnsafeFileError(
                f"{self.path}: {name[:80]} declares {declared / 1e9:,.1f} GB and stores {stored / 1e6:,.3f} MB, "
                "more than compression can give; do not use it."
            )

    def check_totals(self) -> None:
        """Refuse arrays that share their bytes, and many small arrays that together declare too much."""
        if self.stored > self.file_size:
            raise UnsafeFileError(
                f"{self.path}: its arrays claim {self.stored:,} bytes of a file of {self.file_size:,}; do not use it."
            )
        if self.declared > max(SMALL_FILE, MAX_RATIO * self.file_size):
            raise UnsafeFileError(
                f"{self.path}: its arrays declare {self.declared / 1e9:,.1f} GB together and the file has "
                f"{self.file_size / 1e6:,.3f} MB, more than compression can give; do not use it."
            )
