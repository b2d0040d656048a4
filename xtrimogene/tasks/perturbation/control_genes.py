"""What control cells say of genes, context by context: of one that is held out, nothing need be known.

Letters: G genes of the model; M measured genes; D width of a state; C contexts; N control cells; P parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from xtrimogene.tasks.perturbation.gene_graph import coexpression_graph
from xtrimogene.tasks.perturbation.gene_knowledge import GeneKnowledge


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ControlGenes:
    """``states`` are mean context embeddings in the control cells of each context; ``graph`` is the user's, if any.

    ``values`` are log1p of counts per 10,000 of control cells, and ``context`` the number of each one's context.
    """

    context_names: tuple[str, ...]
    states: Float[np.ndarray, "C G D"]
    values: csr_matrix
    context: Int[np.ndarray, " N"]
    graph: csr_matrix | None = None

    def knowledge(self, contexts: Sequence[str]) -> GeneKnowledge:
        """Return what is known of genes from these contexts, which weigh alike."""
        return GeneKnowledge(states=self.states[self._numbers(contexts)].mean(axis=0), graph=self.graph)

    def cells(self, contexts: Sequence[str]) -> csr_matrix:
        return self.values[np.flatnonzero(np.isin(self.context, self._numbers(contexts)))]

    def coexpression(self, contexts: Sequence[str]) -> csr_matrix:
        """Return the graph (M x M) of genes that are expressed together in control cells of these contexts."""
        return coexpression_graph(self.cells(contexts))

    def _numbers(self, contexts: Sequence[str]) -> list[int]:
        return [self.context_names.index(name) for name in contexts]
