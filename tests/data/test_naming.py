"""Messages with a file's name before them."""

import warnings

import pytest

from xtrimogene.data.naming import naming
from xtrimogene.errors import CountsError, GeneMatchError


def test_every_warning_gets_the_name_and_keeps_its_kind() -> None:
    with pytest.warns() as caught, naming("a.h5ad"):
        warnings.warn("few genes", UserWarning, stacklevel=1)
        warnings.warn("an old way", FutureWarning, stacklevel=1)
    said = [(warning.category, str(warning.message)) for warning in caught]
    assert said == [(UserWarning, "a.h5ad: few genes"), (FutureWarning, "a.h5ad: an old way")]
    assert {warning.filename for warning in caught} == {__file__}


def test_refused_genes_get_the_name_and_other_errors_know_it() -> None:
    with pytest.raises(GeneMatchError, match="^a.h5ad: 3 of 9 genes$"), naming("a.h5ad"):
        raise GeneMatchError("3 of 9 genes")
    with pytest.raises(CountsError, match="^X of a.h5ad$"), naming("a.h5ad"):
        raise CountsError("X of a.h5ad")
