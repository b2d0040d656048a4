from dataclasses import replace

import numpy as np
import torch

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.tasks.annotation.latent_expression import LatentExpression


def test_it_says_what_the_network_says(tiny_model: PretrainedModel) -> None:
    network = XTrimoGene(replace(tiny_model.config, latent_dim=6, pool="latent"), seed=1).eval()
    assert network.latent_head is not None
    with torch.no_grad():
        network.latent_head.depth.weight.fill_(0.3)
    expression = LatentExpression.of(network)
    assert expression is not None
    latent = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    with torch.inference_mode():
        wanted = network.predict_from_latent(torch.from_numpy(latent), torch.full((5,), 4.0)).numpy()
    genes = np.array([3, 0, 399])
    np.testing.assert_allclose(expression.predict(latent, genes), wanted[:, genes], atol=1e-5)
    assert np.ptp(wanted[:, genes], axis=0).min() > 1e-3, "cells differ"


def test_an_embedding_that_is_no_latent_vector_says_nothing_of_genes(tiny_model: PretrainedModel) -> None:
    for change in ({"latent_dim": None, "pool": "all"}, {"latent_dim": 6, "pool": "mean"}):
        assert LatentExpression.of(XTrimoGene(replace(tiny_model.config, **change))) is None
