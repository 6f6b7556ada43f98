#!/usr/bin/env bash
# The proof on a GPU: kernels, whole steps and short trainings against the CPU and PyTorch, NVIDIA's sanitizer, and
# speed beside PyTorch. It has not yet run on a device.
#
#   tests/gpu/run.sh build                 with Rust: two programs into target/gpu, for any x86-64 Linux with a driver
#   tests/gpu/run.sh                       there, without Rust: every part
#   tests/gpu/run.sh --kernels --passes    some parts; a number after a flag is the part's budget in seconds
#   tests/gpu/run.sh --speed 540 --models atto:256 --jobs pretrain
#   tests/gpu/run.sh --rehearse            without a GPU: every line of Python on tiny sizes, for no figures
#
# Whatever part fails, the others run; the exit status is 0 if what ran was right. A part stops at its budget, none of
# which is more than ten minutes; --speed needs one run for each model, or less.
#
# There it needs a Python with torch, timm, numpy and safetensors, and NVRTC and cuBLASLt: those of its nvidia-* wheels,
# or CUDA's.
#
# CONVNEXT_GPU_PROGRAMS  where the two programs are; target/gpu if not set
# CONVNEXT_GPU_PYTHON    the Python; python3 if not set
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
target=${CARGO_TARGET_DIR:-$root/target}
programs=${CONVNEXT_GPU_PROGRAMS:-$target/gpu}
python=${CONVNEXT_GPU_PYTHON:-python3}

build() {
    cd "$root"
    cargo build --release --package convnext-tests --bin gpu "$@"
    local kernels
    kernels=$(cargo test --release --package convnext-core --test cuda --no-run --message-format json "$@" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    mkdir -p "$programs"
    cp "$target/release/gpu" "$programs/gpu"
    cp "$kernels" "$programs/kernels"
    strip "$programs/gpu" "$programs/kernels"
    ls -l "$programs/gpu" "$programs/kernels"
    if command -v objdump >/dev/null; then
        echo "needs: $(objdump -T "$programs/gpu" "$programs/kernels" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1) or newer"
    fi
}

# The folders of NVRTC and cuBLASLt that belong to the Python's PyTorch, else those of CUDA.
libraries() {
    "$python" - <<'END'
import sys
from pathlib import Path

folders = [folder for entry in sys.path for folder in sorted(Path(entry or ".").glob("nvidia/*/lib"))]
folders += [Path("/usr/local/cuda/lib64")]
wanted = ["libnvrtc.so*", "libcublasLt.so*"]
print(":".join(str(folder) for folder in folders if any(any(folder.glob(name)) for name in wanted)))
END
}

if [ "${1:-}" = build ]; then
    shift
    build "$@"
    exit
fi
for program in gpu kernels; do
    if [ ! -x "$programs/$program" ]; then
        echo "no program at $programs/$program: tests/gpu/run.sh build, where there is Rust" >&2
        exit 2
    fi
done
CONVNEXT_GPU_PROGRAMS=$(cd "$programs" && pwd)
CONVNEXT_GPU_LIBRARIES=$(libraries)
# What torch.compile makes, and Triton's kernels, are kept for the next run.
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-${TMPDIR:-/tmp}/convnext-gpu/inductor}
export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-${TMPDIR:-/tmp}/convnext-gpu/triton}
# Threads that wait do not spin: on a machine that others use too, PyTorch's CPU side is many times as fast so.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
export CONVNEXT_GPU_PROGRAMS CONVNEXT_GPU_LIBRARIES PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
exec "$python" "$here/prove.py" "$@"
