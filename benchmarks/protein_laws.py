"""Fit the laws of the package from the released runs, and hold every number against the one published.

python benchmarks/protein_laws.py            # needs ../shared; writes the law files and results/protein_laws.json

The runs are those of Cheng et al. (arXiv 2411.02142), `data/protein` of ../shared. None of their numbers are written,
only constants fitted to them. "published" is the paper's figure, or that of the notes on its released runs.
"""

import argparse
import json
import tarfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from xtrimogene.protein.scaling_laws.compute_optimal import ComputeOptimalLaw, GrowthLaw, parity
from xtrimogene.protein.scaling_laws.envelope import fit_envelope
from xtrimogene.protein.scaling_laws.isoflop import fit_isoflop
from xtrimogene.protein.scaling_laws.parametric import ParametricLaw
from xtrimogene.protein.scaling_laws.parametric_fit import Method, fit_parametric
from xtrimogene.protein.scaling_laws.power_law import PowerLaw
from xtrimogene.protein.scaling_laws.registry import file_name, write_law
from xtrimogene.protein.scaling_laws.transfer import TransferLaw
from xtrimogene.protein.scaling_laws.transfer_fit import TransferPair, fit_transfer

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "protein"
LAWS = ROOT / "xtrimogene" / "protein" / "scaling_laws" / "laws"
RESULT = ROOT / "benchmarks" / "results" / "protein_laws.json"
CHENG = "Cheng et al., Training Compute-Optimal Protein Language Models, NeurIPS 2024 (arXiv 2411.02142)"
UNIMETA = "UniMeta200B: 939M sequences, 194B tokens of UniRef50, UniRef90 and ColabFold; residues and special tokens"
NOISE = 0.010
MIDDLE = 10**19.5  # of the budgets, on a logarithmic scale

PUBLISHED_ISOFLOP = {
    "clm": {"A": 1.25888e-3, "a": 0.57864, "B": 123.715, "b": 0.42278, "loss": [7.8195, -0.02610]},
    "mlm": {"A": 6.19452e-8, "a": 0.77572, "B": 2.02340e6, "b": 0.23024, "loss": [7.7869, -0.02819]},
}
PUBLISHED_METHODS = {"clm": (0.571, 0.635, [0.515, 0.724]), "mlm": (0.767, 0.749, [0.652, 0.851])}
PUBLISHED_PARAMETRIC = {
    "clm": {"E": 2.122564, "A": 143.9753, "B": 22036.53, "alpha": 0.3665866, "beta": 0.4955893},
    "mlm": {"E": 0.0, "A": 3.365188, "B": 7.568555, "alpha": 0.04228664, "beta": 0.09943256},
}
POINT_SETS = {"clm": "envelope_CLM_log200.csv", "mlm": "envelope_MLM_run-final.csv"}
REANALYSIS = {"objective": 4.56e-4, "E": 0.0, "A": 3.0588, "B": 4.5376, "alpha": 0.04301, "beta": 0.05988}
CHINCHILLA = {"objective": 0.0010182740, "E": 1.81724, "A": 477.84, "B": 2143.86, "alpha": 0.34731, "beta": 0.36718}
CONSTANTS = ("E", "A", "B", "alpha", "beta")


@dataclass(frozen=True, kw_only=True)
class PairFiles:
    size: str
    budget: str
    first: str
    num_parameters: float
    published: tuple[float, float, float]  # final losses from scratch and after CLM; billions of tokens saved


PAIRS = (
    PairFiles(size="25M", budget="1e19", first="1e18", num_parameters=25165824, published=(2.2880, 2.2744, 12.1)),
    PairFiles(size="85M", budget="3e19", first="5.2e18", num_parameters=84934656, published=(2.2146, 2.1925, 18.1)),
    PairFiles(size="200M", budget="1e20", first="2.3e19", num_parameters=202309632, published=(2.1279, 2.1020, 19.6)),
    PairFiles(size="470M", budget="3e20", first="1e20", num_parameters=472435184, published=(2.0557, 2.0310, 24.4)),
    PairFiles(size="1.2B", budget="1e21", first="5.3e20", num_parameters=1208881136, published=(1.9755, 1.9413, 36.1)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    clm, mlm = (isoflop_law(options.data, objective) for objective in ("clm", "mlm"))
    transfer = fit_transfer(
        transfer_pairs(options.data),
        name="cheng2024:clm->mlm",
        data=UNIMETA,
        source=f"Fitted to the released curves of {CHENG}",
    )
    transfer = replace(
        transfer,
        published_share=(0.10, 0.20),
        caution="One amount of CLM was tried at each of five sizes, so how D_t depends on it is not known.",
    )
    for law in (clm, mlm, rounded_transfer(transfer), *published_laws(options.data), serrano(), hoffmann(options.data)):
        write_law(law, LAWS / file_name(law.name))
    found = {
        "isoflop": {objective: isoflop_numbers(options.data, objective) for objective in ("clm", "mlm")},
        "envelope": {objective: envelope_numbers(options.data, objective) for objective in ("clm", "mlm")},
        "parametric": parametric_numbers(options.data),
        "transfer": transfer_numbers(options.data, transfer),
        "parity": {"ours": list(sizes_of(parity(clm, mlm))), "published": [7.2e21, 5.6e9]},
    }
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def isoflop_runs(data: Path, objective: str) -> list[Float[np.ndarray, " P"]]:
    points = pd.read_csv(data / "isoflop_points.csv")
    points = points[points.objective == objective.upper()]
    return [points[name].to_numpy(float) for name in ("budget_flops", "N_params", "final_validation_loss")]


def isoflop_fit(data: Path, objective: Any, **options: Any) -> ComputeOptimalLaw:
    options = {"minimum": "raw", "fit": "linear", **options}
    return fit_isoflop(
        *isoflop_runs(data, objective), name=f"cheng2024:{objective}", objective=objective, data=UNIMETA, **options
    )


def isoflop_law(data: Path, objective: str) -> ComputeOptimalLaw:
    """Return the published law, with refits of logarithms, moved so that in the middle their mean is the law."""
    law = isoflop_fit(data, objective, num_bootstraps=0)
    refits = isoflop_fit(data, objective, fit="log", refits="noise", noise=NOISE, num_bootstraps=100)
    own = isoflop_fit(data, objective, noise=NOISE, num_bootstraps=2_000).num_parameters.exponent_interval()
    assert law.loss is not None and refits.loss is not None and own is not None
    low, high = own
    return replace(
        law,
        num_parameters=rounded(law.num_parameters, refits.num_parameters),
        num_tokens=rounded(law.num_tokens, refits.num_tokens),
        loss=rounded(law.loss, refits.loss),
        source=f"{CHENG}; the isoFLOP recipe, re-computed from the released points",
        caution=(
            f"Its ranges are those of fits of logarithms to runs with a noise of {NOISE:g}. The published recipe, "
            f"least squares of N itself, leaves N's exponent open from {low:.2f} to {high:.2f} (90 %)."
        ),
    )


def rounded(law: PowerLaw, refitted: PowerLaw) -> PowerLaw:
    if refitted.refits:
        refitted = moved(refitted, law)
    return PowerLaw(
        coefficient=digits(law.coefficient),
        exponent=digits(law.exponent),
        refits=tuple((digits(coefficient), digits(exponent)) for coefficient, exponent in refitted.refits),
    )


def moved(refitted: PowerLaw, law: PowerLaw) -> PowerLaw:
    """Return the refits moved up or down, so that in the middle of the budgets their mean is the law."""
    coefficients, exponents = np.array(refitted.refits).T
    middle = np.log(MIDDLE)
    lines = np.log(coefficients) + exponents * middle
    coefficients = coefficients * law.at(MIDDLE) / np.exp(lines.mean())
    return replace(refitted, refits=tuple(zip(coefficients.tolist(), exponents.tolist(), strict=True)))


def rounded_transfer(law: TransferLaw) -> TransferLaw:
    return replace(
        law,
        k=digits(law.k),
        alpha=digits(law.alpha),
        beta=digits(law.beta),
        scratch=rounded(law.scratch, law.scratch),
        transfer=rounded(law.transfer, law.transfer),
        first_share=(digits(law.first_share[0]), digits(law.first_share[1])),
        refits=tuple((digits(k), digits(alpha), digits(beta)) for k, alpha, beta in law.refits),
    )


def digits(value: float) -> float:
    return float(f"{value:.6g}")


def isoflop_numbers(data: Path, objective: str) -> dict[str, Any]:
    logarithms, parabolas, interval = PUBLISHED_METHODS[objective]
    raw = isoflop_fit(data, objective, num_bootstraps=0)
    assert raw.loss is not None
    published = PUBLISHED_ISOFLOP[objective]
    ours = {
        "A": raw.num_parameters.coefficient,
        "a": raw.num_parameters.exponent,
        "B": raw.num_tokens.coefficient,
        "b": raw.num_tokens.exponent,
        "loss": [raw.loss.coefficient, raw.loss.exponent],
    }
    intervals = {}
    for refits in ("noise", "reflected", "runs"):
        for fit in ("log", "linear"):
            law = isoflop_fit(data, objective, fit=fit, refits=refits, noise=NOISE, num_bootstraps=2_000)
            powers = law.num_parameters
            intervals[f"{refits} {fit}"] = {"90 %": powers.exponent_interval(), "95 %": powers.exponent_interval(0.95)}
    found = {
        minimum: isoflop_fit(data, objective, fit="log", minimum=minimum, num_bootstraps=0).num_parameters.exponent
        for minimum in ("raw", "parabola")
    }
    return {
        **{name: {"ours": ours[name], "published": published[name]} for name in ours},
        "log-log exponent": {"ours": found["raw"], "published": logarithms},
        "parabola exponent": {"ours": found["parabola"], "published": parabolas},
        "interval": {"published": interval, "nearest of ours": "noise log, 95 %", "ours": intervals},
    }


def envelope_numbers(data: Path, objective: Any) -> dict[str, Any]:
    """Fit the envelope of the raw curves, and that of the point set another analysis made of them."""
    curves = read_curves(data, objective)
    options: dict[str, Any] = {"name": "envelope", "objective": objective, "data": UNIMETA}
    points = pd.read_csv(data / f"envelope_{objective.upper()}_log200.csv")
    given = [points[name].to_numpy(float) for name in "CNL"]
    found = {}
    for name, law in (
        ("raw curves", fit_envelope(*curves[:3], run=curves[3], between=(1e18, 1e21), **options)),
        ("point set", fit_envelope(*given, num_bootstraps=0, **options)),
    ):
        assert law.loss is not None
        found[name] = {
            "a": law.num_parameters.exponent,
            "90 %": law.num_parameters.exponent_interval(),
            "loss": [law.loss.coefficient, law.loss.exponent],
        }
    return found


def read_curves(data: Path, objective: str) -> list[np.ndarray]:
    """Return compute, size, loss and run of every point of the released curves."""
    runs = pd.read_csv(data / "per_run_final.csv").query("used and objective == @objective.upper()")
    sizes = dict(zip(runs.run, runs.N, strict=True))
    folder = "/gpt_valid/" if objective == "clm" else "/mlm_valid/"
    tables = []
    with tarfile.open(data / "training_logs.tar.gz") as archive:
        for member in archive:
            name = Path(member.name).name
            if folder in member.name and name in sizes and (file := archive.extractfile(member)):
                tables.append(pd.read_csv(file).assign(N=sizes[name], run=len(tables)))
    points = pd.concat(tables)
    return [points.Step.to_numpy(float) * 1e9, *(points[name].to_numpy() for name in ("N", "Value", "run"))]


def published_laws(data: Path) -> list[ParametricLaw]:
    cautions = {
        "clm": (
            "No optimum of its own points: the objective is 1.439e-3 where descent goes on to 4.56e-4 at E = 0, "
            "alpha = .0430, beta = .0599. alpha and beta are not identified; rely on beta / (alpha + beta) alone."
        ),
        "mlm": (
            "alpha and beta are not identified: the best E is 0, as low as it may go, and they make up for it; rely on "
            "beta / (alpha + beta) alone."
        ),
    }
    return [
        ParametricLaw(
            name=f"cheng2024:{objective}:parametric",
            objective=objective,
            **PUBLISHED_PARAMETRIC[objective],
            fitted_flops=flops_range(pd.read_csv(data / POINT_SETS[objective]).C),
            data=UNIMETA,
            source=CHENG,
            caution=caution,
        )
        for objective, caution in cautions.items()
    ]


def flops_range(flops: "pd.Series[float]") -> tuple[float, float]:
    return digits(flops.min()), digits(flops.max())


def serrano() -> GrowthLaw:
    return GrowthLaw(
        name="serrano2024",
        objective="mlm",
        parameters_exponent=0.27,
        tokens_exponent=0.71,
        data="UniRef50",
        source="Serrano et al., Are Protein Language Models Compute Optimal?, 2024",
        caution="Exponents alone, which add up to .98; UniRef50 repeats itself after 15B tokens.",
    )


def hoffmann(data: Path) -> ParametricLaw:
    return ParametricLaw(
        name="hoffmann2022",
        objective="text",
        E=1.69,
        A=406.4,
        B=410.7,
        alpha=0.34,
        beta=0.28,
        fitted_flops=flops_range(chinchilla_points(data)["Training FLOP"]),
        data="MassiveText",
        source="Hoffmann et al., Training Compute-Optimal Large Language Models, 2022 (arXiv 2203.15556)",
        caution="Of text, for comparison; refits of its points give alpha .347 and beta .367.",
    )


def chinchilla_points(data: Path) -> pd.DataFrame:
    return pd.read_csv(data / "chinchilla_points.csv").sort_values("loss").iloc[:-5]


def parametric_numbers(data: Path) -> dict[str, Any]:
    text = chinchilla_points(data)
    size = text["Model Size"].to_numpy(float)
    sets = {"chinchilla": (size, text["Training FLOP"].to_numpy(float) / (6 * size), text.loss.to_numpy(float))}
    for objective, file in POINT_SETS.items():
        points = pd.read_csv(data / file)
        sets[objective] = tuple(points[name].to_numpy(float) for name in ("N", "D_row", "L"))
    laws = {law.objective: law for law in published_laws(data)}
    methods: tuple[Method, ...] = ("lbfgs", "vpnls")
    published = {"chinchilla": CHINCHILLA, "clm, re-analysed": REANALYSIS, **PUBLISHED_PARAMETRIC}
    found: dict[str, Any] = {"published": published}
    for name, points in sets.items():
        given = [laws[name]] if name in laws else []
        for method in methods:
            start = time.perf_counter()
            fit = fit_parametric(*points, name=name, objective="text", data=name, method=method, given=given)
            found[f"{name} {method}"] = {
                "seconds, with 100 bootstraps": round(time.perf_counter() - start, 1),
                "objective": fit.objective,
                **{constant: getattr(fit.law, constant) for constant in CONSTANTS},
                "parameters_exponent": fit.law.parameters_exponent,
                "condition": fit.condition,
                "intervals": fit.intervals,
                "identified": fit.identified,
                "basins": [str(basin) for basin in fit.basins],
            }
    return found


def transfer_pairs(data: Path) -> list[TransferPair]:
    pairs = []
    for pair in PAIRS:
        stem = data / "transfer_curves" / f"{pair.size}_{pair.budget}"
        scratch, transfer = (pd.read_csv(f"{stem}{end}.csv") for end in ("", f"_clm_pretrain_{pair.first}"))
        pairs.append(
            TransferPair(
                num_parameters=pair.num_parameters,
                flops=float(pair.budget),
                first_flops=float(pair.first),
                scratch_tokens=scratch.Step.to_numpy(float),
                scratch_loss=scratch.Value.to_numpy(float),
                transfer_tokens=transfer.Step.to_numpy(float),
                transfer_loss=transfer.Value.to_numpy(float),
            )
        )
    return pairs


def transfer_numbers(data: Path, law: TransferLaw) -> dict[str, Any]:
    table = {}
    for pair, files in zip(transfer_pairs(data), PAIRS, strict=True):
        split = law.split(pair.flops, pair.num_parameters)
        table[files.size] = {
            "ours": [*pair.final_losses, pair.saved_tokens / 1e9],
            "published": files.published,
            "tokens of CLM, billions": pair.first_flops / (6 * pair.num_parameters) / 1e9,
            "split at which CLM pays for itself, billions": [split.first_tokens / 1e9, split.second_tokens / 1e9],
            "share of CLM then": split.first_share,
        }
    return {
        "pairs": table,
        "scratch": {"ours": [law.scratch.coefficient, law.scratch.exponent], "published": [9.2675, -0.03195]},
        "transfer": {"ours": [law.transfer.coefficient, law.transfer.exponent], "published": [10.126, -0.03413]},
        "k, alpha, beta": {
            "ours": [law.k, law.alpha, law.beta],
            "90 % of alpha and of beta": law.exponent_intervals(),
            "published, crude": [7.66e4, 0.203, 0.366],
        },
        "best share of CLM": {"published": [0.10, 0.20], "published split of 470M, billions": [21, 85]},
    }


def sizes_of(optimum: Any) -> tuple[float, float]:
    return optimum.flops, optimum.num_parameters


if __name__ == "__main__":
    main()
