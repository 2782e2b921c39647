"""The kernels pass the real compiler."""

import os
import subprocess
import sys

from tests.helpers.commands import ROOT
from tests.helpers.cuda import make_spec

COMPILED = [  # spec, dtype, keep, backward, compute capability
    (make_spec("lstm", "one_span"), "float32", True, True, 90),
    (make_spec("gru", "uneven"), "float32", True, True, 80),
    (make_spec("rnn", "batch", joined=True), "float64", True, True, 90),
    (make_spec("lstm", "frozen", joined=True), "float64", False, False, 80),
    (make_spec("lstm", "batch"), "float32", False, False, 90),
    (make_spec("rnn", "uneven_uncentred"), "float32", True, False, 90),
]


COMPILE = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from models.recurrent import cuda
from models.recurrent.spec import Spec, Statistics

def compile(spec, dtype, keep, backward, capability):
    plan = cuda.Plan(spec, 2, 2, 5, getattr(torch, dtype), torch.device("cpu"), keep)
    pointers = (*cuda._room_for_forward(plan)[:-1], *(cuda._room_for_backward(plan) if backward else (None,) * 6))
    types = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int32: "*i32"}
    constants = {**plan.constants, "BACKWARD": backward}
    options = {"num_warps": constants.pop("num_warps")}
    signature = {}
    for name, value in zip(cuda._step.arg_names, (0, *pointers, plan.N, plan.H)):
        signature[name] = "constexpr" if value is None else "i32" if isinstance(value, int) else types[value.dtype]
        constants |= {name: None} if value is None else {}
    signature |= dict.fromkeys(plan.constants.keys() - options.keys() | {"BACKWARD"}, "constexpr")
    source = ASTSource(cuda._step, signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

for row in ROWS:
    assert "cubin" in compile(*row).asm
print("compiled")
"""


def test_the_real_compiler_takes_the_kernel(tmp_path):
    """For GPUs of capability 8.0 and 9.0, which need not be there. In a process of its own, without the interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE.replace("ROWS", repr(COMPILED))]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.endswith("compiled\n"), done.stderr
