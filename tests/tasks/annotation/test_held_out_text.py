from xtrimogene.tasks.annotation.held_out_text import held_out_lines

FIGURES = {
    "macro_f1": 0.8761,
    "macro_f1_low": 0.85,
    "macro_f1_high": 0.9,
    "accuracy": 0.9,
    "calibration_error": 0.02,
    "calibration_error_before": 0.3,
    "coverage": 0.912,
    "labels_possible": 1.25,
}
BESIDE = {
    "baselines": ["all genes, linear", "most frequent label"],
    "baseline_macro_f1": [0.88, 0.05],
    "difference": [-0.004, 0.826],
    "difference_low": [-0.03, 0.8],
    "difference_high": [0.02, 0.85],
    "verdict": ["ties", "beats"],
}


def test_a_verdict_stands_with_each_baseline() -> None:
    lines = list(held_out_lines(FIGURES | BESIDE, held_out_by="donor_id"))
    assert lines == [
        "Held out by donor_id: macro-F1 0.876 [0.850, 0.900], accuracy 0.900",
        "  ties   all genes, linear    0.880  (-0.004 [-0.030, +0.020])",
        "  beats  most frequent label  0.050  (+0.826 [+0.800, +0.850])",
        "Confidence is off by 0.020, 0.300 before scaling.",
        "Possible labels at an error rate of 10 %: 1.2 a cell, with the right one in 91%.",
    ]
    assert max(map(len, lines)) <= 80
    assert list(held_out_lines(FIGURES, held_out_by="donor_id")) == [lines[0], *lines[-2:]]
