"""The ordered genes of a model, and how the columns of anybody's matrix find their place among them."""

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, Int64, Real, Shaped
from scipy.sparse import csr_matrix

from xtrimogene.data.gene_columns import are_genes, contradicted, ensembl_ids, of_other_species
from xtrimogene.data.gene_names import ENSEMBL_ID, RULES, SYMBOL, name_index, split_name
from xtrimogene.data.gene_report import GeneReport, describe_names, percent, quote
from xtrimogene.data.gene_table import human_gene_table
from xtrimogene.errors import ConfigError, FileFormatError, GeneMatchError

# Where identifiers are kept: scanpy, 10x, CELLxGENE, Seurat, Bioconductor. Other columns (a nearest gene, an ortholog)
# may hold gene names that are not the column's own.
_FIELDS = re.compile(
    r"var_names|_?index|id|ids|name|names|gene|genes|feature|features|symbol|symbols|ensg|ensembl|entrez_?id"
    r"|(ensembl|gene|genes|feature|hgnc|original_gene|external_gene|official|ensembl_gene|gene_ensembl|gene_short)"
    r"_?(id|ids|name|names|symbol|symbols)"
)
_WHERE = "Put gene symbols or Ensembl ids in var_names, or in a column such as gene_ids or feature_name."


@dataclass(frozen=True, slots=True)
class GeneVocabulary:
    """An ordered list of genes: one symbol each, and the Ensembl id without version where there is one, else ""."""

    symbols: tuple[str, ...]
    ensembl_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.symbols) != len(self.ensembl_ids):
            raise ConfigError(
                f"{len(self.symbols):,} symbols came with {len(self.ensembl_ids):,} Ensembl ids; "
                'give one id per symbol, "" where there is none.'
            )
        if not all(self.symbols):
            raise ConfigError(f"Gene {self.symbols.index('')} has no symbol; use its Ensembl id as symbol.")
        for kind, names in (("symbol", self.symbols), ("Ensembl id", tuple(filter(None, self.ensembl_ids)))):
            if len(set(names)) < len(names):
                raise ConfigError(f"The {kind} {_first_repeated(names)!r} stands twice among the genes; keep one.")

    @classmethod
    def human(cls) -> "GeneVocabulary":
        """Return the packaged human protein-coding genes, ordered by Ensembl id."""
        return _human()

    @classmethod
    def from_symbols(cls, symbols: Sequence[str]) -> "GeneVocabulary":
        """Make a vocabulary of symbols; Ensembl ids are looked up in the packaged human table."""
        return cls(tuple(symbols), human_gene_table().ids_of(symbols))

    @classmethod
    def read(cls, path: str | Path) -> "GeneVocabulary":
        """Read a model's genes, in order, from a tab-separated file with a header.

        Parameters
        ----------
        path
            Columns ``symbol`` (or ``gene_name``) and ``ensembl_id``; without the latter, as in scFoundation's
            list, ids are looked up in the packaged human table. A column ``index`` must count from 0.

        Raises
        ------
        FileFormatError
            The file is missing, or is not such a table.
        """
        return _read(Path(path))

    def write(self, path: str | Path) -> None:
        Path(path).write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the content of the file that `write` makes."""
        rows = zip(self.symbols, self.ensembl_ids, strict=True)
        return "".join(f"{symbol}\t{i}\n" for symbol, i in (("symbol", "ensembl_id"), *rows)).encode("utf-8")

    @property
    def sha256(self) -> str:
        """Of the file that ``write`` makes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.symbols)

    def __repr__(self) -> str:
        return f"GeneVocabulary({len(self):,} genes: {', '.join(self.symbols[:3])}{', ...' if len(self) > 3 else ''})"

    def places(self, names: Sequence[str]) -> Int64[np.ndarray, " A"]:
        """Say where the genes of these symbols or Ensembl ids are.

        Raises
        ------
        GeneMatchError
            A name is none of ours; or there is no name.
        """
        if names is None or isinstance(names, str) or not len(names):
            raise GeneMatchError(
                f"genes={names!r}: a list of symbols or Ensembl ids is needed, such as ['CD3D', 'MS4A1']."
            )
        target = self.match({"genes": list(names)}).target
        unknown = [name for name, place in zip(names, target.tolist(), strict=True) if place < 0]
        if unknown:
            raise GeneMatchError(
                f"The model has no gene {', '.join(map(repr, unknown[:5]))}"
                + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
                + f" among its {len(self):,}; see model.genes.symbols."
            )
        return target

    def match(self, columns: Mapping[str, Sequence[str]]) -> "GeneMatch":
        """Find the gene of every column of a matrix.

        Parameters
        ----------
        columns
            Identifiers of the matrix's columns under the names they have in ``var``: ``var_names``, ``gene_ids``,
            ``feature_name`` ... All are used: a gene that one misses may be found by another.

        Notes
        -----
        Exact symbols and Ensembl ids come before aliases and previous symbols. Where two identifiers disagree, the
        one that finds more columns is believed. Antibodies, guides and other features that ``feature_types`` names are
        no genes, whatever they are called; nor is a column with an Ensembl id of another species. Where the file has
        Ensembl ids, a column without one is found by an exact symbol only, and only if no other column has that gene.
        """
        fields = _identifiers(columns)
        is_gene = are_genes(columns)
        index = name_index(self.symbols, self.ensembl_ids)
        found = {field: index.find_all(names) for field, names in fields.items()}
        ranked = sorted(fields, key=lambda f: (-(found[f][0] >= 0).sum(), -(found[f][1] == SYMBOL).sum(), f))

        num_columns = len(next(iter(fields.values())))
        target = np.full(num_columns, -1, np.int64)
        rule = np.zeros(num_columns, np.int8)
        source = np.full(num_columns, -1, np.int64)
        for exact in (True, False):
            for rank, field in enumerate(ranked):
                field_target, field_rule = found[field]
                new = (target < 0) & (field_target >= 0) & (np.isin(field_rule, (SYMBOL, ENSEMBL_ID)) == exact)
                target[new], rule[new], source[new] = field_target[new], field_rule[new], rank
        ids = ensembl_ids(fields)
        foreign = of_other_species(ids)
        gone = ~is_gene | (foreign != "") | contradicted(fields, ids, target, self.symbols)
        target[gone], rule[gone], source[gone] = -1, 0, -1
        names = tuple(
            fields[ranked[rank]][column]
            if rank >= 0
            else str(foreign[column]) or next((fields[f][column] for f in ranked if fields[f][column]), "")
            for column, rank in enumerate(source.tolist())
        )
        return GeneMatch(
            vocabulary=self,
            names=names,
            target=target,
            rule=np.array(RULES)[rule],
            field=np.array([*ranked, ""])[source],
            is_gene=is_gene,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeneMatch:
    """Where the columns of one matrix go. Letters: G genes of the vocabulary."""

    vocabulary: GeneVocabulary
    names: tuple[str, ...]  # one per column, as the file has it
    target: Int[np.ndarray, "columns"]  # place in the vocabulary, or -1
    rule: Shaped[np.ndarray, "columns"]  # one of RULES
    field: Shaped[np.ndarray, "columns"]  # the identifier that found it, or ""
    is_gene: Bool[np.ndarray, "columns"]  # not an antibody, a guide or another feature

    @property
    def num_genes(self) -> int:
        return len(self.vocabulary)

    @property
    def measured(self) -> Bool[np.ndarray, "G"]:
        """Which genes have at least one column; the others are unknown, not zero."""
        measured = np.zeros(self.num_genes, bool)
        measured[self.target[self.target >= 0]] = True
        return measured

    def apply(self, counts: csr_matrix) -> csr_matrix:
        """Turn cells x columns into cells x genes; columns of one gene are summed."""
        assert counts.shape[1] == len(self.target), (counts.shape, len(self.target))
        target = self.target[counts.indices]
        kept = target >= 0
        starts = np.concatenate([[0], kept.cumsum()])[counts.indptr]
        moved = csr_matrix((counts.data[kept], target[kept], starts), shape=(counts.shape[0], self.num_genes))
        moved.sum_duplicates()
        return moved

    def report(self, counts_per_column: Real[np.ndarray, "columns"] | None = None) -> GeneReport:
        matched = self.target >= 0
        counts = None if counts_per_column is None else np.where(self.is_gene, counts_per_column, 0.0)
        heaviest = np.zeros(len(matched)) if counts is None else -counts
        unmatched = [
            self.names[c] for c in np.argsort(heaviest, kind="stable").tolist() if not matched[c] and self.is_gene[c]
        ]
        table = human_gene_table()
        ambiguous = [name for name in unmatched if name in table.ambiguous]

        columns_of: dict[int, list[int]] = {}
        for column in np.flatnonzero(matched).tolist():
            columns_of.setdefault(int(self.target[column]), []).append(column)
        summed = {gene: columns for gene, columns in sorted(columns_of.items()) if len(columns) > 1}
        return GeneReport(
            num_columns=int(self.is_gene.sum()),
            num_other_features=int((~self.is_gene).sum()),
            num_matched_columns=int(matched.sum()),
            num_genes=self.num_genes,
            num_matched_genes=len(columns_of),
            total_counts=None if counts is None else float(counts.sum()),
            matched_counts=None if counts is None else float(counts[matched].sum()),
            by_rule={rule: int((self.rule == rule).sum()) for rule in RULES[1:]},
            by_field={str(field): int((self.field == field).sum()) for field in np.unique(self.field) if field},
            num_summed=sum(map(len, summed.values())),
            summed={self.vocabulary.symbols[g]: [self.names[c] for c in summed[g]] for g in list(summed)[:10]},
            num_ambiguous=len(ambiguous),
            ambiguous=ambiguous[:10],
            unmatched=unmatched[:10],
        )

    def require(
        self, counts_per_column: Real[np.ndarray, "columns"] | None = None, *, min_genes: int = 200
    ) -> GeneReport:
        """Return the report, if enough is matched to trust an answer.

        Raises
        ------
        GeneMatchError
            Fewer than ``min_genes`` genes are matched, or they carry less than half of the counts.

        Warns
        -----
        UserWarning
            The matched genes carry less than 80 % of the counts.
        """
        report = self.report(counts_per_column)
        share = report.share_of_counts
        of_counts = "" if share is None else f" ({percent(share)} of the counts)"
        found = f"{report.num_matched_columns:,} of {report.num_columns:,} genes{of_counts} are in the vocabulary"
        if report.num_matched_genes < min_genes:
            wanted = f"at least {min_genes:,} genes are needed (min_genes)."
            raise GeneMatchError(f"{found}; {wanted}{self._advice(report, counts_per_column, min_genes)}")
        if share is not None and share < 1 / 2:
            raise GeneMatchError(
                f"{found}; at least half of the counts are needed.{self._advice(report, counts_per_column, min_genes)}"
            )
        if share is not None and share < 4 / 5:
            message = f"{found}; results are less sure below 80 %.{self._advice(report, counts_per_column, min_genes)}"
            warnings.warn(message, UserWarning, stacklevel=2)
        return report

    def _advice(self, report: GeneReport, counts: Real[np.ndarray, "columns"] | None, min_genes: int) -> str:
        if min_genes > self.num_genes:
            return f"\nThe model has only {self.num_genes:,} genes: ask for fewer."
        if report.num_columns < min_genes and report.num_matched_columns >= report.num_columns / 2:
            return f"\nThe data has only {report.num_columns:,} genes: give the matrix from before genes were selected."
        if not report.unmatched:
            return ""
        unmatched = np.flatnonzero((self.target < 0) & self.is_gene)
        weights = None if counts is None else np.asarray(counts)[unmatched].tolist()
        looks = describe_names([self.names[column] for column in unmatched.tolist()], weights)
        return f"\nFirst unmatched: {quote(report.unmatched)}. {looks or _WHERE}"


@cache
def _human() -> GeneVocabulary:
    genes = [gene for gene in human_gene_table().genes if gene.biotype == "protein_coding"]
    return GeneVocabulary(tuple(gene.symbol for gene in genes), tuple(gene.ensembl_id for gene in genes))


def _identifiers(columns: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Keep what can name a gene, under its name in the file; everything, where no column has a known name."""
    known = {field: names for field, names in columns.items() if _FIELDS.fullmatch(re.sub(r"[ .]", "_", field).lower())}
    fields = {field: [str(name).strip() for name in names] for field, names in (known or columns).items()}
    if len(lengths := {field: len(names) for field, names in fields.items()}) == 0 or len(set(lengths.values())) > 1:
        raise GeneMatchError(f"One identifier per column of the matrix is needed, in every field; got {lengths}.")
    return fields


def _first_repeated(names: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _read(path: Path) -> GeneVocabulary:
    try:
        header, *lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except OSError as error:
        raise FileFormatError(f"The gene list {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"The gene list {path} is not UTF-8 text.") from error
    names = header.rstrip("\r").split("\t")
    rows = [line.rstrip("\r").split("\t") for line in lines]
    key = next((name for name in ("symbol", "gene_name") if name in names), None)
    if key is None or any(len(row) != len(names) for row in rows):
        raise FileFormatError(
            f"{path} is no gene list: a header with symbol and ensembl_id (or gene_name) and as many tab-separated "
            "fields in every row are needed."
        )
    table = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    if "index" in table and table["index"] != [str(place) for place in range(len(rows))]:
        raise FileFormatError(
            f"The column index of {path} does not count from 0: the rows are not in the model's order."
        )
    try:
        if "ensembl_id" not in table:
            return GeneVocabulary.from_symbols(table[key])
        return GeneVocabulary(tuple(table[key]), tuple(split_name(i)[0] for i in table["ensembl_id"]))
    except ConfigError as error:
        raise FileFormatError(f"{path}: {error}") from error
