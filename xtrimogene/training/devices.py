"""Kinds of device that a run can be planned for."""

from dataclasses import dataclass

from xtrimogene.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """Memory, and dense matrix products a second at their peak, by the maker's data sheet."""

    name: str
    memory_gib: float
    bfloat16_tflops: float
    float32_tflops: float  # without TF32, which torch leaves off
    accelerator: bool = True


# NVIDIA's data sheets: A100 (June 2021), H100 and H200 SXM (halved, as they count 2:4 sparsity), L40S (halved for
# bfloat16 as well); RTX 4090: appendix A of the Ada GPU architecture paper, with float32 sums.
# A CPU core: matrix products of one AVX-512 thread as measured on a Xeon; bfloat16 is slower there. Its memory is ours
# to assume: say what the machine has.
DEVICES = {
    device.name: device
    for device in (
        Device(name="A100-40", memory_gib=40.0, bfloat16_tflops=312.0, float32_tflops=19.5),
        Device(name="A100-80", memory_gib=80.0, bfloat16_tflops=312.0, float32_tflops=19.5),
        Device(name="H100", memory_gib=80.0, bfloat16_tflops=989.0, float32_tflops=67.0),
        Device(name="H200", memory_gib=141e9 / 2**30, bfloat16_tflops=989.0, float32_tflops=67.0),
        Device(name="L40S", memory_gib=48.0, bfloat16_tflops=362.0, float32_tflops=91.6),
        Device(name="RTX-4090", memory_gib=24.0, bfloat16_tflops=165.0, float32_tflops=82.6),
        Device(name="CPU-core", memory_gib=8.0, bfloat16_tflops=0.09, float32_tflops=0.15, accelerator=False),
    )
}


def find_device(name: str) -> Device:
    """Return the device of this name, in capitals or not.

    Raises
    ------
    ConfigError
        No device has this name.
    """
    for known, device in DEVICES.items():
        if known.lower() == name.lower():
            return device
    raise ConfigError(
        f"There is no device {name!r}; choose the nearest of {', '.join(DEVICES)}, and say how much memory yours has."
    )
