"""What a card says of a model's training, and what follows from it."""

import pytest

from xtrimogene.config import to_dict
from xtrimogene.errors import ConfigError
from xtrimogene.protein.config import ObjectiveStage, ProteinPretrainConfig, unified_stages
from xtrimogene.protein.network.checkpoint import ProteinModel
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.network.trained_by import reads_causally, require_objective, trained_by
from xtrimogene.protein.tokenizer import ProteinTokenizer
from xtrimogene.protein.variants.scores import score_variants


def with_stages(tiny: ProteinLM, *stages: ObjectiveStage) -> ProteinModel:
    config = ProteinPretrainConfig(files=("a.fasta",), output="out", stages=stages)
    return ProteinModel(tiny, ProteinTokenizer.xtrimopglm(), {"training": to_dict(config)}, "some")


def test_a_card_says_what_a_model_was_trained_by(tiny: ProteinLM) -> None:
    by_clm = with_stages(tiny, ObjectiveStage(num_steps=2, clm=1.0))
    unified = with_stages(tiny, *unified_stages(2, 2))
    assert trained_by(by_clm) == {"clm"}
    assert reads_causally(by_clm)
    assert trained_by(unified) == {"mlm", "span", "suffix"}
    assert not reads_causally(unified)


def test_nothing_is_held_against_a_model_without_a_card(tiny: ProteinLM) -> None:
    model = ProteinModel(tiny, ProteinTokenizer.xtrimopglm())
    assert trained_by(model) is None
    assert not reads_causally(model)
    require_objective(model, "clm", "method='clm'")


@pytest.mark.parametrize(("method", "other"), [("masked_marginal", "clm"), ("clm", "mlm")])
def test_a_method_that_a_model_never_learned_is_refused(tiny: ProteinLM, method: str, other: str) -> None:
    model = with_stages(tiny, ObjectiveStage(num_steps=2, **{other: 1.0}))
    with pytest.raises(
        ConfigError, match=f"method='{method}' needs a model that was trained by .*'some' was trained by"
    ):
        score_variants(model, "MKT", ["K2R"], method=method, device="cpu")
