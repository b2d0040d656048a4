"""From a name in somebody's file to a gene of a model: which spellings are understood, and which rule comes first."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int, Int8

from xtrimogene.data.gene_table import GeneTable, HumanGene, human_gene_table

RULES = ("", "symbol", "ensembl_id", "alias", "previous_symbol")
NONE, SYMBOL, ENSEMBL_ID, ALIAS, PREVIOUS_SYMBOL = range(5)

# ENSG00000141510, ENSG00000141510.16, ENSG00000182378.15_PAR_Y, TP53_ENSG00000141510, ENSG00000141510|TP53
_ENSEMBL = re.compile(r"(?:(.+)[_|])?(ENS[A-Z]*G\d{11})(?:\.\d+)?(?:_PAR_Y)?(?:[_|](.+))?")
_MADE_UNIQUE = re.compile(r"(.+)([-.])(\d+)")  # scanpy writes TBCE-1, R writes TBCE.1


def split_name(name: str) -> tuple[str, str]:
    """Return the Ensembl id without its version, and the symbol; "" for what the name does not hold."""
    if "ENS" in name and (parts := _ENSEMBL.fullmatch(name)):
        before, ensembl_id, after = parts.groups()
        return ensembl_id, before or after or ""
    return "", name


@dataclass(frozen=True, slots=True)
class NameIndex:
    """Every name that leads to a gene of one vocabulary; plain dictionaries, made once per vocabulary."""

    symbols: dict[str, int]
    ensembl_ids: dict[str, int]
    aliases: dict[str, int]
    previous_symbols: dict[str, int]
    table: GeneTable

    def find(self, name: str) -> tuple[int, int]:
        """Return the gene's place in the vocabulary and the rule, or (-1, NONE)."""
        if (gene := self.symbols.get(name)) is not None:
            return gene, SYMBOL
        ensembl_id, symbol = split_name(name)
        if ensembl_id:
            if (gene := self.ensembl_ids.get(ensembl_id)) is not None:
                return gene, ENSEMBL_ID
            # A pig's TP53_ENSSSCG... is no human gene, whatever its symbol.
            return self.find(symbol) if symbol and ensembl_id.startswith("ENSG") else (-1, NONE)
        if (gene := self.aliases.get(name)) is not None:
            return gene, ALIAS
        if (gene := self.previous_symbols.get(name)) is not None:
            return gene, PREVIOUS_SYMBOL
        return -1, NONE

    def find_all(self, names: Sequence[str]) -> tuple[Int[np.ndarray, "columns"], Int8[np.ndarray, "columns"]]:
        """Return the place and the rule of each name; a name that a tool has altered counts as a symbol."""
        found = [self.find(name) for name in names]
        present = frozenset(names)
        for column, (name, (gene, _)) in enumerate(zip(names, found, strict=True)):
            if gene < 0 and (symbol := self._as_written_by_tools(name, present)):
                found[column] = self.symbols[symbol], SYMBOL
        target, rule = zip(*found, strict=True) if found else ((), ())
        return np.array(target, np.int64), np.array(rule, np.int8)

    def _as_written_by_tools(self, name: str, present: frozenset[str]) -> str | None:
        """Undo R's make.names (HLA.A for HLA-A) and make-unique suffixes (TBCE-1 for a second TBCE)."""
        if (hyphened := name.replace(".", "-")) in self.symbols and hyphened not in present:
            return hyphened
        if not (parts := _MADE_UNIQUE.fullmatch(name)) or self.table.knows(name):
            return None
        base, separator, number = parts[1], parts[2], int(parts[3])
        follows = number == 1 or f"{base}{separator}{number - 1}" in present
        return base if follows and base in present and base in self.symbols else None


@lru_cache(maxsize=8)
def name_index(symbols: tuple[str, ...], ensembl_ids: tuple[str, ...]) -> NameIndex:
    table = human_gene_table()
    index = NameIndex(
        symbols={symbol: place for place, symbol in enumerate(symbols)},
        ensembl_ids={ensembl_id: place for place, ensembl_id in enumerate(ensembl_ids) if ensembl_id},
        aliases={},
        previous_symbols={},
        table=table,
    )
    for place, gene in _owners(ensembl_ids, table):
        for ensembl_id in (gene.ensembl_id, *gene.other_ensembl_ids):
            index.ensembl_ids.setdefault(ensembl_id, place)
        # The model may hold the older of two symbols and the data the newer: the relation is the same.
        newer = index.previous_symbols if symbols[place] in gene.previous_symbols else index.aliases
        for names, others in (
            ((gene.symbol,), newer),
            (gene.aliases, index.aliases),
            (gene.previous_symbols, index.previous_symbols),
        ):
            others.update((name, place) for name in names)
    return index


def _owners(ensembl_ids: Sequence[str], table: GeneTable) -> Iterable[tuple[int, HumanGene]]:
    """Give each gene of the table to one place of the vocabulary; two places for one gene: to the gene's own id."""
    places: dict[str, list[int]] = {}
    for place, ensembl_id in enumerate(ensembl_ids):
        if (gene := table.by_id.get(ensembl_id)) is not None:
            places.setdefault(gene.ensembl_id, []).append(place)
    for own_id, group in places.items():
        own = [place for place in group if ensembl_ids[place] == own_id] or group
        if len(own) == 1:
            yield own[0], table.by_id[own_id]
