"""The packaged table of human genes: protein-coding ones and the mitochondrial RNAs, with every name they go by.

``data/README.md`` says where it comes from; ``data/build_gene_table.py`` builds it.
"""

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

ASSET = "assets/human_genes.tsv.gz"


@dataclass(frozen=True, slots=True)
class HumanGene:
    ensembl_id: str
    symbol: str
    biotype: str
    other_ensembl_ids: tuple[str, ...]  # the same gene on patches, alternative haplotypes or Y; retired ids
    previous_symbols: tuple[str, ...]
    aliases: tuple[str, ...]
    ambiguous_names: tuple[str, ...]  # shared with another gene, so they identify neither


@dataclass(frozen=True)
class GeneTable:
    genes: tuple[HumanGene, ...]

    @cached_property
    def by_symbol(self) -> dict[str, HumanGene]:
        return {gene.symbol: gene for gene in self.genes}

    @cached_property
    def by_id(self) -> dict[str, HumanGene]:
        return {i: gene for gene in self.genes for i in (*gene.other_ensembl_ids, gene.ensembl_id)}

    @cached_property
    def by_old_name(self) -> dict[str, HumanGene]:
        """Aliases and previous symbols; no two genes share one."""
        return {name: gene for gene in self.genes for name in (*gene.aliases, *gene.previous_symbols)}

    @cached_property
    def ambiguous(self) -> frozenset[str]:
        return frozenset(name for gene in self.genes for name in gene.ambiguous_names)

    def knows(self, name: str) -> bool:
        return name in self.by_symbol or name in self.by_old_name or name in self.ambiguous

    def find(self, name: str) -> HumanGene | None:
        """Return the gene that a symbol, an Ensembl id without version or an old name means, if it means one."""
        return self.by_symbol.get(name) or self.by_id.get(name) or self.by_old_name.get(name)

    def ids_of(self, symbols: Iterable[str]) -> tuple[str, ...]:
        """Look up one Ensembl id per symbol, "" where there is none; no id is given twice.

        Where two of the symbols mean one gene, its current symbol has the id; where neither is current, none has.
        """
        symbols = tuple(symbols)
        found = [self.find(symbol) for symbol in symbols]
        claims: dict[str, list[str]] = {}
        for symbol, gene in zip(symbols, found, strict=True):
            if gene is not None:
                claims.setdefault(gene.ensembl_id, []).append(symbol)
        return tuple(
            gene.ensembl_id
            if gene is not None and (claims[gene.ensembl_id] == [symbol] or gene.symbol == symbol)
            else ""
            for symbol, gene in zip(symbols, found, strict=True)
        )


@cache
def human_gene_table() -> GeneTable:
    content = (Path(str(files("xtrimogene"))) / ASSET).read_bytes()
    _, *lines = gzip.decompress(content).decode("utf-8").splitlines()
    return GeneTable(tuple(_read_gene(line) for line in lines))


def _read_gene(line: str) -> HumanGene:
    ensembl_id, symbol, biotype, *groups = line.split("\t")
    others, previous, aliases, ambiguous = (tuple(group.split("|")) if group else () for group in groups)
    return HumanGene(ensembl_id, symbol, biotype, others, previous, aliases, ambiguous)
