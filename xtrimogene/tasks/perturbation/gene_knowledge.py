"""What is known of every gene of a model before any is perturbed: how it behaves in control cells, and its neighbours.

Letters: G genes of the model; M measured genes; P parts; D width of a state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from xtrimogene.tasks.perturbation.gene_graph import neighborhoods, smooth
from xtrimogene.tasks.perturbation.graph_network import GraphInputs
from xtrimogene.tasks.perturbation.part_features import PartFeatures
from xtrimogene.tasks.unit_rows import unit_rows


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GeneKnowledge:
    """``states`` are mean context embeddings in control cells; ``graph`` is the user's, if there is one."""

    states: Float[np.ndarray, "G D"]
    graph: csr_matrix | None = None

    def features(self, parts: Sequence[str], places: Int[np.ndarray, " P"]) -> PartFeatures:
        """Describe parts, each at its place among the genes; -1 is no gene, such as a drug."""
        is_gene, gene = (places >= 0)[:, None], np.maximum(places, 0)
        states = np.where(is_gene, unit_rows(self.states, center=True)[gene], 0.0)
        sources: dict[str, Float[np.ndarray, "P _"] | csr_matrix] = {"states": states}
        if self.graph is not None:
            sources["graph"] = csr_matrix(neighborhoods(self.graph, gene).multiply(is_gene))
        return PartFeatures(parts=tuple(parts), sources=sources)

    def inputs(
        self,
        parts: Sequence[str],
        places: Int[np.ndarray, " P"],
        genes: Int[np.ndarray, " M"],
        coexpression: csr_matrix,
    ) -> GraphInputs:
        """Return what the network reads: states averaged along the user's graph, or, of genes, along co-expression."""
        scaled = unit_rows(self.states, center=True) * np.sqrt(self.states.shape[1])
        of_genes = smooth(coexpression, scaled[genes]) if self.graph is None else smooth(self.graph, scaled)[genes]
        of_parts = scaled if self.graph is None else smooth(self.graph, scaled)
        row = {place: number for number, place in enumerate(genes.tolist())}
        return GraphInputs(
            gene_states=of_genes,
            parts=tuple(parts),
            part_states=np.where((places >= 0)[:, None], of_parts[np.maximum(places, 0)], 0.0),
            gene_of_part={part: row[place] for part, place in zip(parts, places.tolist(), strict=True) if place in row},
        )
