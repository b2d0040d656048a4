from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import FieldError, GeneMatchError
from xtrimogene.pl.denoising import denoised
from xtrimogene.tl.denoising import denoise


@pytest.fixture
def cells(tiny_model: PretrainedModel, make_cells: Callable[..., AnnData]) -> AnnData:
    cells = make_cells(30)
    return denoise(cells, tiny_model, genes=list(cells.var_names[:9]))


def test_a_panel_a_gene_with_two_boxes_a_label(cells: AnnData, tmp_path: Path) -> None:
    figure = denoised(cells, list(cells.var_names[:4]), "cell_type")
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == list(cells.var_names[:4])
    assert all(len(ax.patches) == 2 * 3 for ax in shown)
    figure.savefig(tmp_path / "denoised.png")


def test_counts_are_drawn_as_values(tiny_model: PretrainedModel, cells: AnnData) -> None:
    gene = str(cells.var_names[2])
    tops = [denoised(cells, [gene], "cell_type").axes[0].get_ylim()[1]]
    denoise(cells, tiny_model, unit="counts", genes=[gene])
    tops.append(denoised(cells, [gene], "cell_type").axes[0].get_ylim()[1])
    np.testing.assert_allclose(tops[0], tops[1], rtol=1e-3)


def test_what_cannot_be_drawn_is_refused(cells: AnnData) -> None:
    with pytest.raises(GeneMatchError, match="not denoised"):
        denoised(cells, [str(cells.var_names[20])], "cell_type")
    with pytest.raises(FieldError, match="call that first"):
        denoised(cells, [str(cells.var_names[0])], "cell_type", key="other")
    with pytest.raises(FieldError, match="0 genes"):
        denoised(cells, [], "cell_type")
    with pytest.raises(FieldError, match="no column|no obs column|donor"):
        denoised(cells, [str(cells.var_names[0])], "donor")
