"""What a step reads and learns."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch.nn import functional as F

from xtrimogene.protein.config import ObjectiveStage, ProteinPretrainConfig
from xtrimogene.protein.network.packed_sequences import PackedSequences
from xtrimogene.protein.network.protein_lm import ProteinLM
from xtrimogene.protein.sequences.sequence_store import SequenceStore
from xtrimogene.protein.tokenizer import ProteinTokenizer
from xtrimogene.protein.training.batch import ProteinBatch, summed_loss
from xtrimogene.protein.training.data_module import ProteinDataModule, ProteinSteps
from xtrimogene.protein.training.lightning_module import ProteinPretraining
from xtrimogene.training.optimizer import build_optimizer


def open_store(config: ProteinPretrainConfig) -> SequenceStore:
    tokenizer = ProteinTokenizer.named(config.tokenizer)
    return SequenceStore.from_files(config.files, tokenizer, max_length=config.model.max_length)


def contents(step: list[ProteinBatch]) -> list[list[int]]:
    return [[*part.packed.token_ids.tolist(), -1, *part.labels.tolist()] for part in step]


def test_a_step_is_its_number_wherever_a_run_begins(config: ProteinPretrainConfig) -> None:
    store = open_store(config)
    steps = [contents(step) for step in ProteinSteps(store, config, 0)]
    assert len(steps) == config.num_steps
    assert [contents(step) for step in ProteinSteps(store, config, 7)] == steps[7:]
    other = [contents(step) for step in ProteinSteps(store, replace(config, seed=1), 0)]
    assert not any(a == b for a, b in zip(steps, other, strict=True))


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_a_step_is_pinned_for_a_gpu_alone(
    config: ProteinPretrainConfig, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    store, calls = open_store(config), []
    monkeypatch.setattr(ProteinBatch, "pin_memory", lambda part: (calls.append("pin"), part)[1])
    monkeypatch.setattr(ProteinBatch, "to", lambda part, *_, non_blocking: (calls.append("send"), part)[1])
    step = next(iter(ProteinSteps(store, config, 0)))
    ProteinDataModule(store, config).transfer_batch_to_device(step, torch.device(device), 0)
    assert calls == ["pin"] * len(step) * (device != "cpu") + ["send"] * len(step)


@pytest.mark.gpu
def test_a_step_arrives_on_a_gpu_as_it_was(config: ProteinPretrainConfig) -> None:
    store = open_store(config)
    step = next(iter(ProteinSteps(store, config, 0)))
    there = ProteinDataModule(store, config).transfer_batch_to_device(step, torch.device("cuda"), 0)
    assert all(part.labels.is_cuda and part.packed.mask.segments.cu_seqlens.is_cuda for part in there)
    assert contents(there) == contents(step)


def test_passes_have_all_tokens_of_the_step_and_stages_their_objectives(config: ProteinPretrainConfig) -> None:
    store = open_store(config)
    for number, step in enumerate(ProteinSteps(store, config, 0)):
        masks = [part.packed.mask for part in step]
        assert all(part.num_targets == int((part.labels >= 0).sum()) > 0 for part in step)
        if number < 5:
            assert sum(mask.segments.num_rows for mask in masks) <= 160
            assert all(mask.segments.num_rows <= 90 and mask.suffix.num_rows == 0 for mask in masks)
    assert any(mask.suffix.num_rows for mask in masks) and any(mask.prefix.num_rows for mask in masks)


def test_a_step_is_the_same_however_it_is_cut(config: ProteinPretrainConfig) -> None:
    store = open_store(config)
    gradients = []
    for most in (None, 90):
        module = ProteinPretraining(ProteinLM(config.model, seed=0), config)
        (step,) = islice(ProteinSteps(store, replace(config, tokens_per_pass=most), 6), 1)
        assert (len(step) == 1) == (most is None)
        total = sum(part.num_targets for part in step)
        sum(summed_loss(module.network, part) / total for part in step).backward()  # type: ignore[union-attr]
        gradients.append([weight.grad for weight in module.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_only_what_is_asked_for_counts(config: ProteinPretrainConfig) -> None:
    module = ProteinPretraining(ProteinLM(config.model, seed=0), config)
    packed = PackedSequences.from_ids([torch.tensor([1, 2, 3]).numpy()])
    labels = torch.tensor([-100, 5, -100])
    expected = F.cross_entropy(module.network(packed)[1:2], torch.tensor([5]))
    torch.testing.assert_close(summed_loss(module.network, ProteinBatch(packed, labels, 1)), expected)


@pytest.mark.parametrize("objective", ["mlm", "clm", "span", "suffix"])
def test_each_objective_is_learned(config: ProteinPretrainConfig, objective: str) -> None:
    """Sequences of two letters in turn: what comes can be told from what is there."""
    text = ">a\nMKMKMKMKMKMKMKMKMKMKMKMK\n>b\nKMKMKMKMKMKMKMKMKMKM\n"
    with open(config.files[0], "w") as stream:
        stream.write(text)
    config = replace(config, stages=(ObjectiveStage(num_steps=150, **{objective: 1.0}),))
    module = ProteinPretraining(ProteinLM(config.model, seed=0).train(), config)
    optimizer = build_optimizer(module, config.optimizer)
    losses = []
    for step in ProteinSteps(open_store(config), config, 0):
        optimizer.zero_grad()
        loss = torch.stack([summed_loss(module.network, part) for part in step]).sum() / sum(
            part.num_targets for part in step
        )
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) / 10 < 0.35 * losses[0]


def test_other_sequences_are_refused(config: ProteinPretrainConfig) -> None:
    from xtrimogene.errors import ConfigError

    state = ProteinDataModule(open_store(config), config).state_dict()
    with open(config.files[0], "a") as stream:
        stream.write("M")
    with pytest.raises(ConfigError, match="other sequences than when this run began"):
        ProteinDataModule(open_store(config), config).load_state_dict(state)
