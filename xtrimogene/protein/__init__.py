"""Protein language models: what to train with the budget at hand, and the tools to train it.

Names are loaded when they are first used. Types: ``__init__.pyi``.
"""

from xtrimogene.lazy_names import lazy_names

_LAWS = "xtrimogene.protein.scaling_laws"
_HOMES = {
    "ObjectiveStage": "xtrimogene.protein.config",
    "Plan": "xtrimogene.protein.planning.model_plan",
    "ProteinConfig": "xtrimogene.protein.config",
    "ProteinLM": "xtrimogene.protein.network.protein_lm",
    "ProteinModel": "xtrimogene.protein.network.checkpoint",
    "ProteinPretrainConfig": "xtrimogene.protein.config",
    "ProteinTokenizer": "xtrimogene.protein.tokenizer",
    "SamplingConfig": "xtrimogene.protein.generation.sampling",
    "SpanMaskingConfig": "xtrimogene.protein.config",
    "TokenMaskingConfig": "xtrimogene.protein.config",
    "TransferPair": f"{_LAWS}.transfer_fit",
    "embed_fasta": "xtrimogene.protein.embedding.embed",
    "fit_envelope": f"{_LAWS}.envelope",
    "fit_isoflop": f"{_LAWS}.isoflop",
    "fit_parametric": f"{_LAWS}.parametric_fit",
    "fit_transfer": f"{_LAWS}.transfer_fit",
    "generate": "xtrimogene.protein.generation.generate",
    "held_out_loss": "xtrimogene.protein.training.held_out",
    "infill": "xtrimogene.protein.generation.generate",
    "law_names": f"{_LAWS}.registry",
    "load_protein_model": "xtrimogene.protein.network.checkpoint",
    "parity": f"{_LAWS}.compute_optimal",
    "plan": "xtrimogene.protein.planning.plan",
    "pretrain": "xtrimogene.protein.training.run",
    "read_config": "xtrimogene.protein.training.run",
    "read_law": f"{_LAWS}.registry",
    "save_protein_model": "xtrimogene.protein.network.checkpoint",
    "score_variants": "xtrimogene.protein.variants.scores",
    "unified_stages": "xtrimogene.protein.config",
    "write_law": f"{_LAWS}.registry",
}

__all__ = [
    "ObjectiveStage",
    "Plan",
    "ProteinConfig",
    "ProteinLM",
    "ProteinModel",
    "ProteinPretrainConfig",
    "ProteinTokenizer",
    "SamplingConfig",
    "SpanMaskingConfig",
    "TokenMaskingConfig",
    "TransferPair",
    "embed_fasta",
    "fit_envelope",
    "fit_isoflop",
    "fit_parametric",
    "fit_transfer",
    "generate",
    "held_out_loss",
    "infill",
    "law_names",
    "load_protein_model",
    "parity",
    "plan",
    "pretrain",
    "read_config",
    "read_law",
    "save_protein_model",
    "score_variants",
    "unified_stages",
    "write_law",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
