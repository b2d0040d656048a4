"""How large a model some cells justify: nobody knows, so here is what others paired.

A fitted law of our own will stand here once `benchmarks/scaling_study.py` has been run. Until then there is none to
apply: the xTrimoGene paper shows a power law in parameters and in operations but neither its coefficients nor its
dependence on data, and the one study of data (arXiv 2602.15253) stops at 200,000 cells of 512 chosen genes.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedModel:
    """A model and the cells it was pre-trained on."""

    name: str
    num_parameters: float
    num_cells: float

    @property
    def cells_per_parameter(self) -> float:
        return self.num_cells / self.num_parameters


# Counts as their papers state them: Nature Methods 2024 (both), Nature Communications 2025.
PUBLISHED = (
    PublishedModel(name="scFoundation", num_parameters=119e6, num_cells=50e6),
    PublishedModel(name="scGPT", num_parameters=53e6, num_cells=33e6),
    PublishedModel(name="CellFM", num_parameters=800e6, num_cells=102e6),
)


def paired_parameters(num_cells: int) -> tuple[float, float]:
    """Return the smallest and the largest model that the published ratios pair with so many cells.

    A habit of the field, not an optimum: none of these models was chosen among others trained on the same cells.
    """
    sizes = [num_cells / model.cells_per_parameter for model in PUBLISHED]
    return min(sizes), max(sizes)
