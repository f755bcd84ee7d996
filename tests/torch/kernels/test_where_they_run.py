"""Where the tests of this folder run. Elsewhere this one is skipped when called, the others before pytest counts them."""


def test_kernels_run_in_the_interpreter_or_on_the_gpu():
    from checks.kernels import DEVICE, INTERPRETED

    from unilossseg.backends import _triton_elements

    assert ("cpu" if INTERPRETED else "cuda") == DEVICE
    # Too late set, the variable would be of no use.
    assert type(_triton_elements.scale).__name__ == ("InterpretedFunction" if INTERPRETED else "JITFunction")
