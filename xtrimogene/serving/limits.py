"""How much a request may ask for, and how much work may wait."""

from dataclasses import dataclass, fields

from xtrimogene.config import require


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What is larger is refused with 413; work that finds no place is refused with 429."""

    max_body_bytes: int = 64 << 20  # as sent
    max_decoded_bytes: int = 512 << 20
    max_ratio: int = 200  # decoded : sent
    max_cells: int = 20_000
    max_genes: int = 100_000
    max_nonzeros: int = 20_000_000
    max_json_numbers: int = 1_000_000  # of an answer in JSON
    max_waiting_bytes: int = 1 << 30  # of bodies and answers of the requests that are open
    max_waiting_tokens: int = 20_000_000  # expressed genes of cells that wait for a model, all requests together
    max_waiting_seconds: float = 60.0  # of work before it that a request may find, at the speed the model has had
    body_seconds: float = 60.0  # until a body that does not come is given up
    request_seconds: float = 600.0  # until a request is given up
    batch_seconds: float = 120.0  # until a batch is taken to hang, and its process is replaced

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            require(value > 0, f"limits: {field.name}={value} must be positive.")
        require(
            self.max_body_bytes + self.max_decoded_bytes <= self.max_waiting_bytes,
            f"limits: max_body_bytes={self.max_body_bytes:,} and max_decoded_bytes={self.max_decoded_bytes:,}, as an "
            f"answer may have, are more than max_waiting_bytes={self.max_waiting_bytes:,}: such a request would find "
            "no place even alone. Lower the first two, or raise the last.",
        )
