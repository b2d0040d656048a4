"""What was matched, what was not, and what unmatched names look like, in words."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import floor
from operator import itemgetter
from typing import Any

_SPECIES = {
    "ENSMUSG": "mouse",
    "ENSRNOG": "rat",
    "ENSMMUG": "rhesus macaque",
    "ENSMFAG": "crab-eating macaque",
    "ENSPTRG": "chimpanzee",
    "ENSGGOG": "gorilla",
    "ENSCJAG": "marmoset",
    "ENSSSCG": "pig",
    "ENSBTAG": "cow",
    "ENSCAFG": "dog",
    "ENSOCUG": "rabbit",
    "ENSGALG": "chicken",
    "ENSDARG": "zebrafish",
    "ENSXETG": "frog",
    "FBgn": "fly",
    "WBGene": "worm",
}
_ORTHOLOGS = "and the model is human: map them to human orthologs first."
_BY_PREFIX = r"(ENS[A-Z]{3,4}G(?=\d)|FBgn(?=\d)|WBGene(?=\d))"
_LOOKS: tuple[tuple[str, str], ...] = (
    (
        r"ENS[A-Z]*[TP]\d{11}(\.\d+)?",
        "transcript or protein ids: sum them to genes, and name those by Ensembl gene id.",
    ),
    (
        r"ENSG\d{11}.*|IG[HKL][VDJCAEGM].*|TR[ABDG][VDJC].*|MALAT1|NEAT1|XIST|LINC\d+|SNHG\d+|SNOR[AD]\d.*|MIR\d.*"
        r"|MT-R.*|MT-T.*|MTRNR.*|(RP|CT[ABCD])\d*-.*|A[CLPF]\d{6}\.\d+|LOC\d+|.*-(AS|OT|DT|IT)\d?",
        "human genes that the model does not have (non-coding ones, immunoglobulin and T-cell receptor genes).",
    ),
    (r"\d+", "Entrez numbers or row numbers: put gene symbols or Ensembl ids in var_names, or in var['gene_ids']."),
    (r"\d+(_[a-z])*_at|AFFX.*|ILMN_\d+|A_\d+_P\d+", "microarray probe ids: map them to gene symbols first."),
    (r"cg\d{8}", "methylation probes: the model reads gene expression."),
    (r"(chr)?[\dXYM]+[:_-]\d+[-_]\d+", "genomic regions (peaks): the model reads gene expression."),
    (r"[NX][MRP]_\d+(\.\d+)?", "RefSeq accessions: map them to gene symbols first."),
    (r"[OPQ]\d[A-Z\d]{3}\d|[A-NR-Z]\d([A-Z][A-Z\d]{2}\d){1,2}", "UniProt accessions: map them to gene symbols first."),
    (r"(GRCh\d+|hg\d+|mm\d+|GRCm\d+)_+.+", "names with the genome in front: keep the human genes and cut the prefix."),
    (r"[A-Z][a-z][A-Za-z\d.-]*|\d{7}[A-Z]\d\dRik|mt-.+", f"mouse (or rat) symbols {_ORTHOLOGS}"),
    (
        r"[a-z][a-z\d.:-]+",
        "lower-case symbols, as of zebrafish: for human genes restore upper case, else use orthologs.",
    ),
)
_FEW = 3 / 10  # of the unmatched names must look alike before the message says so


def percent(share: float) -> str:
    """Round down, so that a share below a limit never reads as the limit."""
    return f"{floor(share * 1000 + 1e-9) / 10:g} %"


def quote(names: Sequence[str], num_shown: int = 5) -> str:
    return ", ".join(repr(name) for name in names[:num_shown])


def describe_names(names: Sequence[str], weights: Sequence[float] | None = None) -> str:
    """Say what most of the names look like and what to do; "" when they look like nothing known."""
    weights = weights if weights and sum(weights) > 0 else [1.0] * len(names)
    looks: dict[str, float] = {}
    for name, weight in zip(names, weights, strict=True):
        look = _look(name)
        looks[look] = looks.get(look, 0.0) + weight
    look, weight = max(((look, weight) for look, weight in looks.items() if look), key=itemgetter(1), default=("", 0.0))
    return f"These are {look}" if look and weight >= _FEW * sum(weights) else ""


def _look(name: str) -> str:
    if prefix := re.match(_BY_PREFIX, name):
        species = _SPECIES.get(prefix[0])
        return f"{f'{species} ids' if species else f'ids of another species ({prefix[0]})'} {_ORTHOLOGS}"
    return next((text for pattern, text in _LOOKS if re.fullmatch(pattern, name)), "")


@dataclass(frozen=True, kw_only=True)
class GeneReport:
    """How the columns of a matrix meet the genes of a model; counts are None where they were not given."""

    num_columns: int  # without other features
    num_matched_columns: int
    num_genes: int  # of the model
    num_matched_genes: int
    total_counts: float | None
    matched_counts: float | None
    by_rule: Mapping[str, int]
    by_field: Mapping[str, int]
    num_summed: int  # columns that share their gene with another column
    summed: Mapping[str, Sequence[str]]  # the first genes with several columns
    num_ambiguous: int
    ambiguous: Sequence[str]  # the first names that belong to several genes
    unmatched: Sequence[str]  # the first names; those with most counts, where counts are known
    num_other_features: int = 0  # antibodies, guides and the like, left out

    @property
    def share_of_counts(self) -> float | None:
        if not self.total_counts or self.matched_counts is None:
            return None
        return self.matched_counts / self.total_counts

    def as_dict(self) -> dict[str, Any]:
        fields = asdict(self) | {"share_of_counts": self.share_of_counts}
        fields["summed"] = {gene: list(names) for gene, names in self.summed.items()}
        return fields | {key: list(fields[key]) for key in ("ambiguous", "unmatched")}

    def __str__(self) -> str:
        rows = {
            "genes": f"{self.num_matched_genes:,} of the model's {self.num_genes:,}, "
            f"from {self.num_matched_columns:,} of {self.num_columns:,} columns",
            "counts": f"{percent(self.share_of_counts)} matched" if self.share_of_counts is not None else "",
            "left out": f"{self.num_other_features:,} features that are no genes (antibodies, guides and the like)"
            if self.num_other_features
            else "",
            "by rule": _listed(self.by_rule),
            "found in": _listed(self.by_field),
            "summed": f"{self.num_summed:,} columns share a gene: {_sums(self.summed)}" if self.num_summed else "",
            "ambiguous": f"{self.num_ambiguous:,} left out: {quote(self.ambiguous)}" if self.num_ambiguous else "",
            "unmatched": f"{self.num_columns - self.num_matched_columns:,}: {quote(self.unmatched)}"
            if self.unmatched
            else "",
        }
        return "\n".join(_row(name, text) for name, text in rows.items() if text)


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items() if number)


def _sums(summed: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{' + '.join(names)} = {gene}" for gene, names in list(summed.items())[:3])


def _row(name: str, text: str) -> str:
    return textwrap.fill(text, 80, initial_indent=f"{name:<11}", subsequent_indent=" " * 11)
