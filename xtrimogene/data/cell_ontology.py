"""The Cell Ontology, offline, from the package cellxgene-ontology-guide: ids, names, and what types have in common."""

import re
from collections.abc import Collection, Iterable

from xtrimogene.errors import MissingExtraError

NAME = "CL"
OF_OTHER_SPECIES = re.compile(r"\(mmus\)|, mouse|sensu (?!vertebrata)")  # in a type's name, in lower case


class CellOntology:
    """Cell types by id, such as CL:0000084, as CELLxGENE's latest schema has them.

    Raises
    ------
    MissingExtraError
        The package is not installed.
    """

    def __init__(self) -> None:
        try:
            from cellxgene_ontology_guide.ontology_parser import OntologyParser
        except ImportError:
            raise MissingExtraError("cell types by id need a package: pip install 'xtrimogene[ontology]'.") from None
        self.parser = OntologyParser()

    def __contains__(self, term: str) -> bool:
        known = term.startswith(f"{NAME}:") and self.parser.is_valid_term_id(term, NAME)
        return bool(known and not self.parser.is_term_deprecated(term))

    def name(self, term: str) -> str:
        """Return what a term is called: "T cell"."""
        return str(self.parser.get_term_label(term))

    def find(self, names: Iterable[object]) -> dict[str, str]:
        """Return ids by name, {"T cell": "CL:0000084"}, of what is a term's name or a synonym of one term alone.

        A synonym of a type that only another species has is none: "alpha cell" is one of a neuron of the mouse.
        """
        terms: dict[str, str] = self.parser.get_term_label_to_id_map(NAME)
        named = {name.casefold(): term for name, term in terms.items() if not self.parser.is_term_deprecated(term)}
        synonyms: dict[str, set[str]] = {}
        for name, term in named.items():
            if OF_OTHER_SPECIES.search(name):
                continue
            for synonym in self.parser.get_term_synonyms(term):
                synonyms.setdefault(synonym.casefold(), set()).add(term)
        found = {}
        for name in (name for name in names if isinstance(name, str)):
            others = synonyms.get(name.casefold(), set())
            if name.casefold() in named:
                found[name] = named[name.casefold()]
            elif len(others) == 1:
                (found[name],) = others
        return found

    def common(self, terms: Collection[str]) -> str | None:
        """Return the term itself, or of several their common ancestor that is nearest, by the sum of steps up to it.

        None where there is none: a term that was given up since has no ancestors.
        """
        if not all(term in self for term in terms):
            return None
        steps = [self.parser.get_term_ancestors_with_distances(term, include_self=True) for term in sorted(set(terms))]
        shared = set.intersection(*(set(of_term) for of_term in steps))
        return None if not shared else min(shared, key=lambda term: (sum(of_term[term] for of_term in steps), term))
