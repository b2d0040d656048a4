"""What a FASTA is found to hold before long work."""

import warnings
from pathlib import Path

import pytest

from xtrimogene.protein.sequences.fasta_survey import survey_fasta
from xtrimogene.protein.tokenizer import ProteinTokenizer


def test_an_alignment_is_warned_of_once(tmp_path: Path) -> None:
    file = tmp_path / "a.fasta"
    file.write_text(">a\nMKT\n>b\nM-T\n>c\nM.T\n")
    with pytest.warns(UserWarning, match="looks like an alignment: 'b' has gaps, .*; remove '-' and '.'") as warned:
        assert survey_fasta(file, ProteinTokenizer.esm()).num_residues == 9
    assert len(warned) == 1
    file.write_text(">a\nMKT\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        survey_fasta(file, ProteinTokenizer.esm())
