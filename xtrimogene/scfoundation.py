"""Read the released scFoundation checkpoint into a model of ours.

The file is a torch pickle {cell | rde | gene} -> {config, state_dict}. It is opened with ``weights_only``, so it can
hold nothing but tensors and plain values. Its weights are for non-commercial research only and must not be passed on.
"""

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from xtrimogene.checkpoint import PretrainedModel, build_network
from xtrimogene.config import DecoderConfig, EncoderConfig, ModelConfig
from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import CheckpointError

Key = Literal["cell", "rde", "gene"]

_PARTS = {
    "token_emb.mlp": "value_embedding.to_bins",
    "token_emb.mlp2": "value_embedding.mix_bins",
    "encoder.norm": "encoder.norm",
    "decoder_embed": "decoder.project",
    "decoder.norm": "decoder.inner_norm",
    "norm": "decoder.outer_norm",
    "to_final": "head",
}
_ENCODER_PARTS = {
    "self_attn.out_proj": "attention.out",
    "linear1": "expand",
    "linear2": "contract",
    "norm1": "attention_norm",
    "norm2": "feed_forward_norm",
}
_DECODER_PARTS = {
    "0.norm": "attention_norm",
    "0.fn.to_q": "attention.query",
    "0.fn.to_k": "attention.key",
    "0.fn.to_v": "attention.value",
    "0.fn.to_out": "attention.out",
    "1.norm": "feed_forward_norm",
    "1.fn.fn.w1": "expand",
    "1.fn.fn.w2": "contract",
}


def read_scfoundation(
    checkpoint: str | os.PathLike[str], genes: str | os.PathLike[str], *, key: Key = "cell"
) -> PretrainedModel:
    """Convert one of the three models of a released file.

    Parameters
    ----------
    checkpoint
        The user's own ``models.ckpt``.
    genes
        The released gene list (columns gene_name and index), 19,264 rows.
    key
        "cell" for cell embeddings, "rde" for read-depth enhancement, "gene" for gene embeddings.

    Raises
    ------
    CheckpointError
        Not a plain state dict, another layout, or a gene list of another length.
    """
    path = Path(checkpoint)
    settings, released = _read_entry(path, key)
    vocabulary = GeneVocabulary.read(Path(genes))
    try:
        config = _model_config(settings, released)
        state = _rename(released, config)
    except KeyError as error:
        raise CheckpointError(f"{path}: {error} is missing; this is not the released scFoundation layout.") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error} This is not the released scFoundation layout.") from None
    if len(vocabulary) != config.num_genes:
        raise CheckpointError(
            f"{genes} lists {len(vocabulary):,} genes and the model of {path} has {config.num_genes:,}; "
            "use the gene list that was released with it."
        )
    network = build_network(config, state, path)
    card = {
        "name": f"scFoundation ({key})",
        "source": {"file": path.name, "sha256": file_sha256(path), "key": key},
        "licence": "non-commercial research only, no redistribution (scFoundation's terms for its weights)",
    }
    return PretrainedModel(network, vocabulary, card, name=f"scfoundation-{key}")


def _read_entry(path: Path, key: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    content = _read_pickle(path)
    if not isinstance(content, dict) or key not in content:
        has = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path} holds {has or 'nothing'}; a model named {key!r} is needed.")
    entry = content[key] if isinstance(content[key], dict) else {}
    config, state = entry.get("config"), entry.get("state_dict")
    if not isinstance(config, dict) or not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise CheckpointError(f"{path}: {key!r} must hold 'config' and 'state_dict'; this is not the released layout.")
    return config, {str(name).removeprefix("model."): tensor for name, tensor in state.items()}


def _read_pickle(path: Path) -> object:
    if not path.is_file():
        raise CheckpointError(f"No file {str(path)!r}; the released models.ckpt is needed.")
    with path.open("rb") as stream:
        start = stream.read(2)
    try:
        if start not in (b"PK", b"\x80\x02"):  # a zip archive, or a pickle of torch before 1.6
            raise ValueError("it begins like another kind of file")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} is a pickle that holds more than tensors and plain values; such a file can run code when opened. "
            "Only the released models.ckpt is read."
        ) from None
    except (RuntimeError, EOFError, zipfile.BadZipFile, UnicodeDecodeError, ValueError) as error:
        reason = str(error).partition("\n")[0] or "it ends early"
        raise CheckpointError(f"{path} is not a torch checkpoint ({reason}). Fetch it again.") from None


def _model_config(released: Mapping[str, Any], state: Mapping[str, Tensor]) -> ModelConfig:
    settings = released["model_config"]["mae_autobin"]
    encoder, decoder = settings["encoder"], settings["decoder"]
    return ModelConfig(
        num_genes=settings["seq_len"] - 2,
        encoder=EncoderConfig(
            dim=encoder["hidden_dim"],
            num_layers=encoder["depth"],
            num_heads=encoder["heads"],
            norm_first=encoder["norm_first"],
            dropout=0.1,
        ),
        decoder=DecoderConfig(
            dim=decoder["hidden_dim"],
            num_layers=decoder["depth"],
            num_heads=decoder["heads"],
            num_features=len(state["decoder.performer.net.layers.0.0.fn.fast_attention.projection_matrix"]),
        ),
        num_bins=settings["bin_num"],
        bin_alpha=float(settings["bin_alpha"]),
        unmeasured="zero",
        pool="all",
        read_depth="t4",
    )


def _rename(released: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    state = {
        "value_embedding.bins": released["token_emb.emb.weight"],
        "value_embedding.mask": released["token_emb.emb_mask.weight"].squeeze(0),
        "gene_embedding.table": released["pos_emb.weight"][: config.num_genes + 2],  # the last row was for padding
    }
    pairs = dict(_PARTS)
    for layer in range(config.encoder.num_layers):
        theirs, ours = f"encoder.transformer_encoder.{layer}", f"encoder.blocks.{layer}"
        pairs |= {f"{theirs}.{old}": f"{ours}.{new}" for old, new in _ENCODER_PARTS.items()}
        for kind in ("weight", "bias"):
            state[f"{ours}.attention.qkv.{kind}"] = released[f"{theirs}.self_attn.in_proj_{kind}"]
    for layer in range(config.decoder.num_layers):
        theirs, ours = f"decoder.performer.net.layers.{layer}", f"decoder.blocks.{layer}"
        pairs |= {f"{theirs}.{old}": f"{ours}.{new}" for old, new in _DECODER_PARTS.items()}
        state[f"{ours}.attention.projection"] = released[f"{theirs}.0.fn.fast_attention.projection_matrix"]
    for old, new in pairs.items():
        for kind in ("weight", "bias"):
            state[f"{new}.{kind}"] = released[f"{old}.{kind}"]
    return state
