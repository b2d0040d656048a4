"""What is known of the genes that are perturbed, so that one that never was can resemble one that was.

A source describes every part (gene or drug) by a vector: "states", the model's mean context embedding of the gene in
control cells, which it has of unmeasured genes too; "graph", where walks from the gene along a gene-gene graph end. A
vector is brought to length 1, so that products are cosines; a part that a source does not know is all zeros, like
nothing else.
Letters: P parts; D width of a source; A, B perturbations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix, issparse

from xtrimogene.tasks.perturbation.names import all_parts, parts_of


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PartFeatures:
    """Vectors of parts, by source."""

    parts: tuple[str, ...]
    sources: Mapping[str, Float[np.ndarray, "P _"] | csr_matrix]

    def products(self, ours: Sequence[str], theirs: Sequence[str]) -> dict[str, Float[np.ndarray, "A B"]]:
        """Return the products of perturbations in each source: a combination's vector is the sum of its parts'.

        "own" is the number of parts that two have in common.
        """
        place = {part: number for number, part in enumerate(self.parts)}
        for part in all_parts([*ours, *theirs]):
            place.setdefault(part, len(place))  # one that no source knows is still itself
        left, right = _members(ours, place), _members(theirs, place)
        found = {"own": (left @ right.T).toarray()}
        known = len(self.parts)
        for name, vectors in self.sources.items():
            product = (left[:, :known] @ vectors) @ (right[:, :known] @ vectors).T
            found[name] = product.toarray() if issparse(product) else product
        return found


def _members(names: Sequence[str], place: Mapping[str, int]) -> csr_matrix:
    split = [parts_of(name) for name in names]
    rows = np.repeat(np.arange(len(split)), [len(one) for one in split])
    columns = np.array([place[part] for one in split for part in one], dtype=np.int64)
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(split), len(place)))
