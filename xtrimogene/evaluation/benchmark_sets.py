"""The labelled studies a cell embedding is judged on, and which label of one is which label of another.

VALIDATION uses training studies only and may be looked at as often as one likes: every choice is made there. TEST is
opened once. Between two studies labels are brought to the coarsest name both can answer for; a label without a
counterpart is left out of the task.
"""

from collections.abc import Mapping
from types import MappingProxyType

from xtrimogene.evaluation.tasks import Source, TaskPlan


def _map(**labels: tuple[str, ...]) -> Mapping[str, str]:
    return MappingProxyType({theirs: ours.replace("_", " ") for ours, names in labels.items() for theirs in names})


PBMC3K_COARSE = _map(
    T=("Naive CD4 T", "Memory CD4 T", "CD8 T"),
    NK=("NK",),
    B=("B",),
    Mono=("CD14+ Mono", "FCGR3A+ Mono"),
    DC=("DC",),
    Platelet=("Platelet",),
)
PBMC3K_FINE = _map(
    CD4_T=("Naive CD4 T", "Memory CD4 T"),
    CD8_T=("CD8 T",),
    NK=("NK",),
    B=("B",),
    CD14_Mono=("CD14+ Mono",),
    CD16_Mono=("FCGR3A+ Mono",),
    DC=("DC",),
    Platelet=("Platelet",),
)
PBMC3K_T_SPLIT = _map(
    CD4_T=("Naive CD4 T", "Memory CD4 T"),
    CD8_T=("CD8 T",),
    NK=("NK",),
    B=("B",),
    Mono=("CD14+ Mono", "FCGR3A+ Mono"),
    DC=("DC",),
    Platelet=("Platelet",),
)
# pDC, plasma cells and ILC are left out: pbmc3k's clusters have none (its DC are FCER1A+ myeloid ones).
HAO_COARSE = _map(
    T=("T cells CD4 conv", "Tregs", "T cells CD8"),
    NK=("NK cells",),
    B=("B cells",),
    Mono=("Monocytes",),
    DC=("mDC",),
    Platelet=("Platelet",),
)
HAO_T_SPLIT = _map(
    CD4_T=("T cells CD4 conv", "Tregs"),
    CD8_T=("T cells CD8",),
    NK=("NK cells",),
    B=("B cells",),
    Mono=("Monocytes",),
    DC=("mDC",),
    Platelet=("Platelet",),
)
KANG_COARSE = _map(T=("CD4 Naive T", "CD4 Memory T", "CD8 T"), B=("B",), Mono=("CD14 Mono", "CD16 Mono"))
KANG_FINE = _map(
    CD4_T=("CD4 Naive T", "CD4 Memory T"),
    CD8_T=("CD8 T",),
    B=("B",),
    CD14_Mono=("CD14 Mono",),
    CD16_Mono=("CD16 Mono",),
)
# wu2021's "T-cells" hold its few NK and NKT cells, so T and NK are one type here.
WU2021_BREAST = _map(
    Endothelial=("Endothelial",),
    Epithelial=("Cancer Epithelial", "Normal Epithelial"),
    Fibroblast=("CAFs",),
    Perivascular=("PVL",),
    Myeloid=("Myeloid",),
    T_and_NK=("T-cells",),
    B=("B-cells",),
    Plasma=("Plasmablasts",),
)
# Adipocytes are left out: wu2021 has none.
SCDECONR_BREAST = _map(
    Endothelial=("Endothelial cells",),
    Epithelial=("Epithelial cells",),
    Fibroblast=("Fibroblast",),
    Perivascular=("Pericytes",),
    Myeloid=("Monocytes",),
    T_and_NK=("T cell", "NK cells"),
)
_PATIENTS = tuple(f"Patient{number}-specific" for number in range(1, 8))
# t and b are tumour and blood; the patient-specific clusters are the tumour cells themselves. "ND" (1 cell) is no type.
ZILIONIS = _map(
    T=("tT cells", "bT cells"),
    NK=("tNK cells", "bNK cells"),
    B=("tB cells", "bB cells"),
    Plasma=("tPlasma cells",),
    MoMacDC=("tMoMacDC", "bMonocytes"),
    pDC=("tpDC",),
    Neutrophil=("tNeutrophils", "bNeutrophils"),
    Mast=("tMast cells",),
    Basophil=("bBasophils",),
    Fibroblast=("Fibroblasts",),
    Endothelial=("Endothelial cells",),
    Smooth_muscle=("Smooth muscle cells",),
    Tumour=_PATIENTS,
    Ciliated=("Ciliated cells",),
    Myeloid_precursor=("bMyeloid precursor-like",),
)
# As in wu2021's names: zilionis "Smooth muscle" are SMC3_RGS5/NOTCH3, which wu2021 calls PVL.
ZILIONIS_TUMOUR = _map(
    Endothelial=("Endothelial cells",),
    Epithelial=_PATIENTS,
    Fibroblast=("Fibroblasts",),
    Perivascular=("Smooth muscle cells",),
    Myeloid=("tMoMacDC",),
    T_and_NK=("tT cells", "tNK cells"),
    B=("tB cells",),
    Plasma=("tPlasma cells",),
)
ZILIONIS_IMMUNE = _map(
    T=("tT cells", "bT cells"),
    NK=("tNK cells", "bNK cells"),
    B=("tB cells", "bB cells"),
    Mono=("tMoMacDC", "bMonocytes"),
)

VALIDATION: tuple[TaskPlan, ...] = (
    TaskPlan(name="pbmc3k by cell", sources=(Source(study="pbmc3k"),), grouping="cell"),
    TaskPlan(name="baron_h1 by library", sources=(Source(study="baron_h1"),), grouping="library"),
    TaskPlan(
        name="zilionis_lung by donor", sources=(Source(study="zilionis_lung_300", rename=ZILIONIS),), grouping="donor"
    ),
    TaskPlan(
        name="darmanis_brain by donor", sources=(Source(study="darmanis_brain_466"),), grouping="donor", num_folds=5
    ),
    TaskPlan(
        name="wu2021 breast minor, by cell",
        sources=(Source(study="wu2021_breast_CID4465", label_key="cell_type_minor"),),
        grouping="cell",
    ),
    TaskPlan(
        name="pbmc3k -> zilionis immune",
        sources=(
            Source(study="pbmc3k", rename=PBMC3K_COARSE),
            Source(study="zilionis_lung_300", rename=ZILIONIS_IMMUNE),
        ),
        mixing=True,
    ),
    TaskPlan(
        name="wu2021 -> zilionis tumour",
        sources=(
            Source(study="wu2021_breast_CID4465", rename=WU2021_BREAST),
            Source(study="zilionis_lung_300", rename=ZILIONIS_TUMOUR),
        ),
        mixing=True,
    ),
)

TEST: tuple[TaskPlan, ...] = (
    TaskPlan(
        name="pbmc3k -> hao",
        sources=(Source(study="pbmc3k", rename=PBMC3K_COARSE), Source(study="hao_pbmc_1336", rename=HAO_COARSE)),
    ),
    TaskPlan(
        name="pbmc3k -> hao, finer",
        sources=(Source(study="pbmc3k", rename=PBMC3K_T_SPLIT), Source(study="hao_pbmc_1336", rename=HAO_T_SPLIT)),
    ),
    TaskPlan(
        name="pbmc3k -> kang",
        sources=(Source(study="pbmc3k", rename=PBMC3K_COARSE), Source(study="kang_ifnb_832", rename=KANG_COARSE)),
    ),
    TaskPlan(
        name="pbmc3k -> kang, finer",
        sources=(Source(study="pbmc3k", rename=PBMC3K_FINE), Source(study="kang_ifnb_832", rename=KANG_FINE)),
    ),
    TaskPlan(
        name="wu2021 -> scdeconr breast",
        sources=(
            Source(study="wu2021_breast_CID4465", rename=WU2021_BREAST),
            Source(study="scdeconr_breast_260", rename=SCDECONR_BREAST),
        ),
    ),
    TaskPlan(  # same study, other donors; all 14 types of donor 1 may be answered
        name="baron_h1 -> donors 2-4",
        sources=(Source(study="baron_h1"), Source(study="baron_h2to4_133")),
    ),
    TaskPlan(  # the three lines that both platforms have
        name="sc_mixology by platform",
        sources=(
            Source(
                study="sc_mixology_1021",
                label_key="cell_line",
                rename=_map(H1975=("H1975",), H2228=("H2228",), HCC827=("HCC827",)),
            ),
        ),
        grouping="platform",
        mixing=True,
        joined_by="batch",
    ),
    TaskPlan(name="camp_fetalcortex by sample", sources=(Source(study="camp_fetalcortex_220"),), grouping="sample"),
    TaskPlan(name="camp_fetalcortex by cell", sources=(Source(study="camp_fetalcortex_220"),), grouping="cell"),
    TaskPlan(name="hao by cell", sources=(Source(study="hao_pbmc_1336"),), grouping="cell"),
    TaskPlan(name="kang by cell", sources=(Source(study="kang_ifnb_832"),), grouping="cell"),
)
